//! WordPress, Debian's package, as a whole application: it installs itself through the gateway and serves pages, and goes on
//! when its database was put to sleep in between.

use std::path::Path;
use std::process::Stdio;

use clients::{Target, folder, give, installed};
use harness::ports::free_port;
use harness::wait::eventually;
use harness::{cli, http};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const TITLE: &str = "A seal came ashore";

#[tokio::test]
async fn wordpress_installs_and_serves_before_and_after_a_sleep() {
    let target = Target::of("wordpress").await;
    target.sleep().await;
    let site = format!("http://127.0.0.1:{}", free_port());
    let directory = installed(&["wordpress"]);

    let mut install = php(&target, &site);
    install
        .arg(folder().join("wordpress/install.php"))
        .arg(&directory)
        .arg(TITLE);
    let output = cli::run(&mut install).await.ok();
    assert!(output.starts_with("post "), "{output}");

    let _server = serve(&target, &site, &directory).await;
    serves_the_post(&site).await;
    target.sleep().await;
    target.assert_asleep().await;
    serves_the_post(&site).await;
    target.check_logs().await;
}

/// The front page names the post, and its own page holds what was written.
async fn serves_the_post(site: &str) {
    let front = http::request("GET", &format!("{site}/"), None, None).await;
    assert_eq!(front.status, 200, "{}", front.body);
    assert!(front.body.contains(TITLE), "{}", front.body);
    let search = http::request("GET", &format!("{site}/?s=ashore&feed=rss2"), None, None).await;
    assert_eq!(search.status, 200, "{}", search.body);
    assert!(search.body.contains("The whole of it: \u{1f9ad}"), "{}", search.body);
}

fn php(target: &Target, site: &str) -> Command {
    let mut command = Command::new("php");
    give(&mut command, target.user(), target.other());
    command.env("SITE", site);
    command
}

/// PHP's own web server on the files of WordPress; ends when dropped.
async fn serve(target: &Target, site: &str, directory: &Path) -> Child {
    let address = site.trim_start_matches("http://");
    let mut command = php(target, site);
    command.args(["-S", address, "-t"]).arg(directory);
    let server = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("php -S");
    eventually(format_args!("{address} is listened on"), async || {
        TcpStream::connect(address).await.ok()
    })
    .await;
    server
}

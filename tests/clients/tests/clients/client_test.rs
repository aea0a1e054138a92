//! `mariadb-client-test`, the C client library's own 300 tests, each in a process of its own: what passes on a `mariadbd`
//! alone passes through the gateway too. Exceptions stand, with their reasons, in mariadb_client_test/exceptions.txt.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use clients::{folder, option_file};
use harness::{Direct, Endpoint, Selkie, cli};
use tokio::process::Command;
use tokio::time::timeout;

/// The database that the program makes, drops and uses; it cannot be told another.
const DATABASE: &str = "client_test_db";
/// One test on the slowest machine; a test that hangs fails.
const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_passes_direct_passes_through_the_gateway() {
    let names = names().await;
    assert!(names.len() > 250, "only {} tests known", names.len());
    let server = Direct::start().await;
    let direct = server.account("app");
    server.sql(&format!(
        "GRANT ALL ON {DATABASE}.* TO app@`%`; GRANT CREATE USER ON *.* TO app@`%`"
    ));
    let selkie = Selkie::shared().await;
    // test_big_packet sends texts that the memory of the default size has no room for.
    let project = selkie.project_of_size("client-test", Some(1.0)).await;
    project.database(DATABASE).await;
    let admin = project.admin("boss", "a password").await;

    let (passed, through) = tokio::join!(all(&direct, &names), all(&admin, &names));
    let passed: BTreeSet<_> = passed
        .into_iter()
        .filter(|(_, output)| output.is_none())
        .map(|(name, _)| name)
        .collect();
    assert!(passed.len() > 230, "only {} tests pass on mariadbd alone", passed.len());
    let excepted = exceptions();
    let broken: BTreeMap<_, _> = through
        .iter()
        .filter_map(|(name, output)| Some((name, output.as_ref()?)))
        .filter(|(name, _)| passed.contains(*name) && !excepted.contains_key(*name))
        .collect();
    assert!(
        broken.is_empty(),
        "{} of {} fail through the gateway: {broken:#?}",
        broken.len(),
        passed.len()
    );
    let healed: Vec<_> = excepted
        .keys()
        .filter(|name| through.get(*name).is_some_and(Option::is_none))
        .collect();
    assert!(
        healed.is_empty(),
        "these pass, so exceptions.txt must not name them: {healed:?}"
    );
    selkie.logs.check();
}

/// What the program calls its tests.
async fn names() -> Vec<String> {
    let listed = cli::run(Command::new("mariadb-client-test").arg("--show-tests"))
        .await
        .ok();
    listed
        .lines()
        .skip(1)
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Runs every test, one after the other, as they share a database; the output of those that failed.
async fn all(endpoint: &Endpoint, names: &[String]) -> BTreeMap<String, Option<String>> {
    let options = option_file(endpoint);
    // The program does not know the option that other clients need to prefer TCP.
    let text = std::fs::read_to_string(options.path())
        .expect("the option file")
        .replace("protocol=tcp\n", "");
    std::fs::write(options.path(), text).expect("the option file");
    let mut outcomes = BTreeMap::new();
    for name in names {
        outcomes.insert(name.clone(), one(options.path(), &endpoint.database, name).await);
    }
    outcomes
}

async fn one(options: &Path, database: &str, name: &str) -> Option<String> {
    let work = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(work.path().join("mysql-test/var/log")).expect("its log directory");
    let run = Command::new("mariadb-client-test")
        .arg(format!("--defaults-file={}", options.display()))
        .args(["-s", "-D", database, name])
        .current_dir(work.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match timeout(LIMIT, run).await {
        Err(_) => Some(format!("did not end within {LIMIT:?}")),
        Ok(done) => {
            let done = done.expect("mariadb-client-test");
            let text = [done.stdout, done.stderr].concat();
            (!done.status.success()).then(|| format!("{}: {}", done.status, tail(&String::from_utf8_lossy(&text))))
        }
    }
}

fn tail(text: &str) -> String {
    let start = text.len().saturating_sub(600);
    let start = (start..=text.len())
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or_default();
    text[start..].to_owned()
}

fn exceptions() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(folder().join("mariadb_client_test/exceptions.txt")).expect("the exceptions");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| line.split_once(": ").expect("NAME: REASON"))
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .collect()
}

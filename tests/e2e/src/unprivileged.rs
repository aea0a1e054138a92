//! `selkie up` as another user than root: it works, and says what of its tenants' isolation is missing; and what becomes of its
//! projects under a control plane that is root. Tests run as root, which only can start it so.

use harness::Selkie;
use harness::client::run;
use mysql_async::prelude::Queryable;

/// nobody, who owns nothing.
const USER: u32 = 65534;
const SAYS: &str = "databases are not kept apart as they could be";

#[tokio::test]
async fn a_selkie_that_is_not_root_says_what_is_not_kept_apart_and_its_projects_never_run_as_root() {
    let mut selkie = Selkie::start_as(USER).await;
    selkie.logs.allow(SAYS);
    let said = selkie.logs.text();
    let lines: Vec<_> = said.lines().filter(|line| line.contains(SAYS)).collect();
    // Once in the log, once on its standard error, which is no terminal here.
    assert_eq!(lines.len(), 2, "{said}");
    for part in [" WARN ", "all run as one OS user", "docs/security.md"] {
        assert!(lines[0].contains(part), "{part:?} not in {}", lines[0]);
    }
    let mut conn = selkie.demo().connect().await;
    run(&mut conn, "CREATE TABLE kept (a INT)").await;
    let server = selkie.servers()[0];
    let owner =
        std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{server}")).expect("its process"));
    assert_eq!(owner, USER);
    drop(conn);
    assert_eq!(selkie.stop(), (true, Some(0)));

    // As it is told to whoever tries; the keys of the state are nobody else's.
    let keys = selkie.data_dir().join("control/store.keys");
    std::os::unix::fs::chown(keys, Some(0), Some(0)).expect("root's right");
    selkie.restart_as_root().await;
    assert!(selkie.servers().is_empty());
    selkie.logs.allow("it has no OS user");
    let mut conn = selkie.demo().connect().await;
    match conn.query_drop("SELECT 1").await {
        Err(mysql_async::Error::Server(told)) => assert!(told.message.contains("it has no OS user"), "{told}"),
        other => panic!("its database runs as root: {other:?}"),
    }
    assert!(selkie.servers().is_empty(), "nothing was started");
    let said = selkie.logs.text();
    assert_eq!(
        said.lines().filter(|line| line.contains(SAYS)).count(),
        2,
        "root has nothing to say: {said}"
    );
}

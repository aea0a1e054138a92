//! The command line as README shows it, each command with `--json` too.

use harness::Selkie;
use harness::client::value;

#[tokio::test]
async fn a_project_is_handled_from_the_command_line() {
    let selkie = Selkie::shared().await;
    let made = selkie.cli(&["project", "create", "cli-life", "--json"]).await.json();
    assert_eq!(made["id"], "cli-life");
    let user = selkie
        .cli(&["user", "create", "cli-life", "worker", "--json"])
        .await
        .json();
    let password = user["password"].as_str().unwrap();
    let listed = selkie.cli(&["project", "list", "--json"]).await.json();
    assert!(listed.to_string().contains("\"cli-life\""), "{listed}");
    assert!(selkie.cli(&["project", "list"]).await.ok().contains("cli-life"));
    assert_eq!(
        selkie.cli(&["project", "show", "cli-life", "--json"]).await.json()["id"],
        "cli-life"
    );
    assert!(
        selkie
            .cli(&["project", "show", "cli-life"])
            .await
            .ok()
            .contains("cli-life")
    );

    let endpoint = selkie
        .demo()
        .with_user("cli-life.worker")
        .with_password(password)
        .with_database("");
    let mut conn = endpoint.connect().await;
    let state = async |expected: &str| {
        let shown = selkie.cli(&["compute", "show", "cli-life", "--json"]).await.json();
        assert_eq!(shown["state"], expected, "{shown}");
    };
    state("suspended").await;
    assert_eq!(value(&mut conn, "SELECT 42").await.as_deref(), Some("42"));
    state("ready").await;
    drop(conn);
    let suspended = selkie.cli(&["compute", "suspend", "cli-life", "--json"]).await.json();
    assert_eq!(suspended["state"], "suspended", "the command waits until it is done");
    let woken = selkie.cli(&["compute", "wake", "cli-life", "--json"]).await.json();
    assert_eq!((&woken["state"], &woken["incarnation"]), (&"ready".into(), &2.into()));
    assert!(
        selkie
            .cli(&["compute", "show", "cli-life"])
            .await
            .ok()
            .contains("ready")
    );
    selkie
        .cli(&["project", "delete", "cli-life", "--yes", "--json"])
        .await
        .ok();
    assert_ne!(selkie.cli(&["project", "show", "cli-life"]).await.code, Some(0));
    selkie.logs.check();
}

#[tokio::test]
async fn a_project_that_is_made_larger_has_a_larger_server_at_its_next_start() {
    let selkie = Selkie::shared().await;
    let project = selkie.project_of_size("cli-grows", Some(0.25)).await;
    let pool = async || {
        let mut conn = project.endpoint.connect().await;
        let bytes = value(&mut conn, "SELECT @@innodb_buffer_pool_size").await;
        bytes.unwrap().parse::<u64>().unwrap()
    };
    let before = pool().await;
    let set = ["project", "set", &project.id, "--size-cu", "0.5", "--json"];
    let set = selkie.cli(&set).await.json();
    assert_eq!(
        (&set["size_cu"], &set["compute"]["size_cu"]),
        (&0.5.into(), &0.25.into())
    );
    assert_eq!(pool().await, before, "it runs on as it is");
    selkie.cli(&["compute", "suspend", &project.id]).await.ok();
    assert_eq!(pool().await, 2 * before);
    let shown = selkie.cli(&["compute", "show", &project.id, "--json"]).await.json();
    assert_eq!(shown["size_cu"], 0.5);
    selkie.logs.check();
}

#[tokio::test]
async fn wrong_commands_say_what_is_wrong_and_fail() {
    let selkie = Selkie::shared().await;
    for (args, told) in [
        (&["project", "show", "no-such-project"][..], "no-such-project"),
        (&["project", "create", "UPPER"], "UPPER"),
        (&["compute", "wake", "no-such-project"], "no-such-project"),
        (&["user", "create", "no-such-project", "someone"], "no-such-project"),
        (&["no-such-command"], "no-such-command"),
    ] {
        let output = selkie.cli(args).await;
        assert!(output.code.is_some_and(|code| code != 0), "{args:?}: {output:?}");
        assert!(output.stderr.contains(told), "{args:?}: {output:?}");
        assert!(!output.stderr.contains("panicked"), "{output:?}");
    }
    selkie.logs.check();
}

#[tokio::test]
async fn the_demo_option_file_opens_the_demo_project() {
    let selkie = Selkie::shared().await;
    let file = selkie.data_dir().join("demo.cnf");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let up = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(selkie.data_dir().join("up.json"))
            .unwrap()
            .permissions(),
    );
    assert_eq!(up & 0o777, 0o600);
    let mut command = tokio::process::Command::new("mariadb");
    command
        .arg(format!("--defaults-extra-file={}", file.display()))
        .args(["-A", "-N", "-e", "SELECT 41 + 1"]);
    assert_eq!(harness::cli::run(&mut command).await.ok().trim(), "42");
    selkie.logs.check();
}

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mysql_async::prelude::Queryable;

use crate::stage::{Stage, account, template, template_spec};

#[tokio::test]
async fn a_template_is_made_once_however_many_ask_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let make = || agent::template(template_spec(dir.path()));
    let (one, two, three) = tokio::join!(make(), make(), make());
    let made = one.unwrap();
    assert_eq!(two.unwrap(), made);
    assert_eq!(three.unwrap(), made);
    // The version's directory and the lock; nothing unfinished.
    let names = || {
        let entries = std::fs::read_dir(dir.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(names().len(), 2, "{:?}", names());
    let created = |path: &Path| std::fs::metadata(path.join("ibdata1")).unwrap().modified().unwrap();
    let before = created(&made.template_dir);
    assert_eq!(make().await.unwrap(), made);
    assert_eq!(created(&made.template_dir), before, "made again");
}

#[tokio::test]
async fn an_unfinished_template_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let made = template().await;
    let version = made.template_dir.parent().unwrap().file_name().unwrap();
    let unfinished = dir.path().join(version).with_extension("unfinished");
    std::fs::create_dir(&unfinished).unwrap();
    std::fs::write(unfinished.join("ibdata1"), "half").unwrap();
    let again = agent::template(template_spec(dir.path())).await.unwrap();
    assert!(again.template_dir.join("ibdata1").metadata().unwrap().len() > 4);
    assert!(!unfinished.exists());
}

#[tokio::test]
async fn a_template_says_what_drivers_ask_while_connecting() {
    let template = template().await;
    assert!(template.version.contains("MariaDB"), "{}", template.version);
    let variable = |name: &str| template.variables.get(name).map(String::as_str);
    assert_eq!(variable("character_set_server"), Some("utf8mb4"));
    assert_eq!(variable("max_allowed_packet"), Some("1073741824"));
    assert_eq!(variable("version"), Some(&template.version[..]));
}

#[tokio::test]
async fn a_template_of_an_earlier_version_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let made = template().await;
    let version = dir
        .path()
        .join(made.template_dir.parent().unwrap().file_name().unwrap());
    std::fs::create_dir_all(version.join("data")).unwrap();
    std::fs::write(
        version.join("template.json"),
        r#"{"template_dir":"/x","version":"x","variables":{}}"#,
    )
    .unwrap();
    let again = agent::template(template_spec(dir.path())).await.unwrap();
    assert_eq!(again.offer, made.offer);
    assert!(again.template_dir.join("ibdata1").exists());
}

#[tokio::test]
async fn a_clone_is_private_whole_and_made_once() {
    let stage = Stage::new().await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&stage.spec.data_dir), 0o700);
    assert_eq!(mode(&stage.spec.data_dir.join("ibdata1")), 0o600);
    let names = |dir: &Path| {
        let mut names: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&stage.spec.data_dir), names(&stage.spec.template_dir));
    std::fs::write(stage.spec.data_dir.join("mine"), "kept").unwrap();
    agent::prepare(&stage.spec).await.unwrap();
    assert!(
        stage.spec.data_dir.join("mine").exists(),
        "a project's data was replaced"
    );
}

#[tokio::test]
async fn a_clone_from_nowhere_leaves_nothing_behind() {
    let mut stage = Stage::uncloned().await;
    stage.spec.template_dir = stage.dir.path().join("no-template");
    let error = agent::prepare(&stage.spec).await.unwrap_err().to_string();
    assert!(error.contains("no-template"), "{error}");
    assert!(!stage.spec.data_dir.exists());
    assert!(!stage.spec.data_dir.with_extension("unfinished").exists());
}

#[tokio::test]
async fn a_clone_knows_time_zones_speaks_utf8mb4_and_has_nobody_without_a_name() {
    let mut stage = Stage::new().await;
    stage.spec.accounts = vec![account("boss", "b", true)];
    let compute = stage.ready().await;
    let mut conn = compute.login("boss", b"b").await.unwrap();
    let row: Option<(Option<String>, String, bool, bool)> = conn
        .query_first(
            "SELECT CONVERT_TZ('2026-07-01 12:00:00', 'UTC', 'Europe/Berlin'), @@collation_server, @@skip_networking, \
             @@session_track_system_variables='*'",
        )
        .await
        .unwrap();
    let expected = (
        "2026-07-01 14:00:00".to_owned(),
        "utf8mb4_general_ci".to_owned(),
        true,
        true,
    );
    assert_eq!(row, Some((Some(expected.0), expected.1, expected.2, expected.3)));
    drop(conn);
    assert!(compute.login("", b"").await.is_err(), "an anonymous account");
    compute.stop().await;
}

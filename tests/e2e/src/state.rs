//! The control plane's own state: what cannot be used is refused by name at the start and left as it is; a disk that is full
//! costs the changes that are asked for meanwhile, and nothing else.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use harness::client::{error_code, run, value};
use harness::selkie::up_command;
use harness::{Selkie, SmallDisk, cli, eventually};
use serde_json::json;

/// What `selkie up` says on that data, in its one line, when it ends by itself.
async fn refusal(selkie: &Selkie) -> String {
    let mut command = tokio::process::Command::from(up_command(selkie.dir()));
    let output = cli::run(&mut command).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    let said = output.stderr.lines().find(|line| line.starts_with("selkie: "));
    said.unwrap_or_else(|| panic!("{output:?}")).to_owned()
}

#[tokio::test]
async fn a_state_or_keys_that_cannot_be_used_are_refused_by_name_and_left_as_they_are() {
    let mut selkie = Selkie::start().await;
    assert_eq!(selkie.stop(), (true, Some(0)));
    let control = selkie.data_dir().join("control");
    let (state, keys) = (control.join("control.sqlite"), control.join("store.keys"));
    assert_eq!(
        fs::metadata(&keys).expect("the keys").permissions().mode() & 0o777,
        0o600
    );
    let (whole, key) = (fs::read(&state).expect("the state"), fs::read(&keys).expect("the keys"));

    let cut = whole[..whole.len() / 2].to_vec();
    for (content, told) in [
        (cut, "is damaged"),
        (
            b"something else altogether".to_vec(),
            "is no database of SQLite any more",
        ),
        (Vec::new(), "is empty"),
    ] {
        fs::write(&state, &content).expect("another state");
        let said = refusal(&selkie).await;
        for part in [state.to_str().expect("its path"), told, "restore it from a backup"] {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
        assert!(fs::read(&state).expect("the state") == content, "it was written to");
    }
    fs::write(&state, &whole).expect("the state");

    let other = format!("{}\n", "5e".repeat(32)).into_bytes();
    for (content, told) in [(other, "add that key"), (b"no key".to_vec(), "line 1 is no key")] {
        fs::write(&keys, &content).expect("other keys");
        let said = refusal(&selkie).await;
        assert!(
            said.contains(keys.to_str().expect("their path")) && said.contains(told),
            "{said}"
        );
        assert!(!said.contains("5e5e5e5e"), "{said}");
    }
    fs::remove_file(&keys).expect("keys that are lost");
    let said = refusal(&selkie).await;
    assert!(said.contains("store.keys: is missing"), "{said}");
    assert!(!keys.exists(), "others were made");
    assert!(fs::read(&state).expect("the state") == whole, "it was written to");

    fs::write(&keys, &key).expect("the keys");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o644)).expect("their mode");
    let said = refusal(&selkie).await;
    assert!(said.contains("open to others"), "{said}");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).expect("their mode");
    // As they were, they serve.
    selkie.restart().await;
    let mut demo = selkie.demo().connect().await;
    assert_eq!(value(&mut demo, "SELECT 1").await.as_deref(), Some("1"));
}

/// The control plane's directory is on that disk from now on.
fn move_to(disk: &SmallDisk, control: &Path) {
    let there = disk.path().join("control");
    fs::create_dir(&there).expect("a directory");
    fs::set_permissions(&there, fs::Permissions::from_mode(0o700)).expect("its mode");
    for file in fs::read_dir(control).expect("the control plane's directory") {
        let file = file.expect("a file").path();
        fs::copy(&file, there.join(file.file_name().expect("its name"))).expect("a copy");
    }
    fs::remove_dir_all(control).expect("what was copied");
    symlink(there, control).expect("a link");
}

#[tokio::test]
async fn a_full_disk_under_the_state_costs_changes_and_delays_wakes_and_nothing_else() {
    let Some(disk) = SmallDisk::mount(8 << 20) else {
        println!("SKIPPED: this process may not mount a file system; run it as root");
        return;
    };
    let mut selkie = Selkie::start().await;
    for part in [
        "no space is left for it",
        "cannot keep",
        "did not start",
        "is still said to go on",
    ] {
        selkie.logs.allow(part);
    }
    let (awake, asleep) = (selkie.project("awake").await, selkie.project("asleep").await);
    let [users, compute] =
        [(&awake, "users"), (&asleep, "compute")].map(|(of, what)| format!("/projects/{}/{what}", of.id));
    let (awake, asleep) = (awake.endpoint.clone(), asleep.endpoint.clone());
    selkie.stop();
    move_to(&disk, &selkie.data_dir().join("control"));
    selkie.restart().await;
    let mut client = awake.connect().await;
    run(&mut client, "CREATE TABLE t (a INT)").await;

    disk.fill();
    // What the log has room for already is still taken.
    let refused = eventually("the disk is full", async || {
        let body = json!({"name": format!("u{}", rand::random::<u32>()), "password": "sesame of this user"});
        let answer = selkie.rest("POST", &users, Some(&body)).await;
        (answer.status != 201).then_some(answer)
    })
    .await;
    assert_eq!(
        (refused.status, refused.json()["code"].as_str()),
        (507, Some("state_full")),
        "{refused:?}"
    );
    let body = json!({"id": "late", "user": {"name": "app", "password": "sesame of this user"}});
    assert_eq!(selkie.rest("POST", "/projects", Some(&body)).await.status, 507);
    assert_eq!(
        selkie.rest("GET", "/projects/late", None).await.status,
        404,
        "nothing of it is there"
    );

    run(&mut client, "INSERT INTO t VALUES (1)").await;
    let mut second = awake.connect().await;
    assert_eq!(value(&mut second, "SELECT COUNT(*) FROM t").await.as_deref(), Some("1"));
    assert_eq!(error_code(asleep.with_password("wrong").try_connect().await), 1045);

    // Who asks a sleeping database waits for it, and is served once there is space.
    let mut sleeper = asleep.connect().await;
    let frees = async {
        eventually("a start cannot be written down", async || {
            selkie.logs.text().contains("cannot begin a start").then_some(())
        })
        .await;
        disk.free();
    };
    let (woken, ()) = tokio::join!(value(&mut sleeper, "SELECT 1"), frees);
    assert_eq!(woken.as_deref(), Some("1"));
    assert_eq!(selkie.rest("POST", "/projects", Some(&body)).await.status, 201);
    let compute = selkie.rest("GET", &compute, None).await.json();
    assert_eq!(compute["incarnation"], 1, "no start was begun in between");
    assert_eq!(value(&mut client, "SELECT COUNT(*) FROM t").await.as_deref(), Some("1"));
}

use std::fs;
use std::path::Path;

use crate::stage::{fails, selkie, succeeds};

fn settings(dir: &Path, text: &str) -> String {
    let file = dir.join("selkie.toml");
    fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[test]
fn flags_go_over_the_environment_and_that_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = settings(dir.path(), "data_dir = '/of/file'");
    // Where a command looks for a control plane, shows which data directory holds.
    let list = ["project", "list"];
    let of_file = || [&list[..], &["--config", &file]].concat();
    let said = fails(&mut selkie(&of_file()));
    assert!(said.contains("/of/file has no up.json"), "{said}");
    let said = fails(selkie(&of_file()).env("SELKIE_DATA_DIR", "/of/environment"));
    assert!(said.contains("/of/environment has no up.json"), "{said}");
    let flags = [of_file(), vec!["--data-dir", "/of/flags"]].concat();
    let said = fails(selkie(&flags).env("SELKIE_DATA_DIR", "/of/environment"));
    assert!(said.contains("/of/flags has no up.json"), "{said}");
}

#[test]
fn sections_are_reached_from_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let file = settings(dir.path(), "gateway.login_timeout = 'of file'");
    let data_dir = dir.path().join("data").display().to_string();
    let gateway = ["gateway", "--config", &file, "--data-dir", &data_dir];
    let said = fails(&mut selkie(&gateway));
    assert!(said.contains("login_timeout") && said.contains("of file"), "{said}");
    let said = fails(selkie(&gateway).env("SELKIE_GATEWAY__LOGIN_TIMEOUT", "of environment"));
    assert!(
        said.contains("login_timeout") && said.contains("of environment"),
        "{said}"
    );
}

#[test]
fn an_unknown_key_is_refused_wherever_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let file = settings(
        dir.path(),
        "[gateway]\nlisten = '127.0.0.1:0'\nlisten_on = '127.0.0.1:1'",
    );
    let said = fails(&mut selkie(&["gateway", "--config", &file]));
    assert!(said.contains(&file) && said.contains("listen_on"), "{said}");
    let said = fails(selkie(&["gateway"]).env("SELKIE_GATEWAY__LISTEN_ON", "127.0.0.1:1"));
    assert!(said.contains("environment") && said.contains("listen_on"), "{said}");
}

#[test]
fn a_settings_file_that_is_not_there_is_named() {
    let said = fails(&mut selkie(&["up", "--config", "/nowhere/selkie.toml"]));
    assert!(said.contains("/nowhere/selkie.toml"), "{said}");
}

#[test]
fn without_a_home_the_data_directory_must_be_given() {
    let as_root = succeeds(std::process::Command::new("id").arg("-u")).trim() == "0";
    if as_root {
        let said = fails(&mut selkie(&["project", "list", "--data-dir", "/nowhere"]));
        assert!(said.contains("/nowhere"), "{said}");
    } else {
        let said = fails(selkie(&["project", "list"]).env_remove("HOME"));
        assert!(said.contains("--data-dir"), "{said}");
    }
}

#[test]
fn help_says_what_there_is() {
    insta::assert_snapshot!(succeeds(&mut selkie(&["--help"])));
    for verb in [
        "up",
        "project",
        "user",
        "database",
        "compute",
        "settings",
        "key",
        "audit",
        "completion",
        "gateway",
        "control",
    ] {
        assert!(
            succeeds(&mut selkie(&[verb, "--help"])).contains("Usage: selkie"),
            "{verb}"
        );
    }
}

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
fn a_relative_path_is_meant_from_where_it_is_written() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let [dir, elsewhere] = [&dir, &elsewhere].map(|dir| dir.path().canonicalize().unwrap());
    let file = settings(
        &dir,
        "data_dir = 'data'\ngateway.tls.key = 'of-operator/key.pem'\ngateway.tls.cert = 'of-operator/cert.pem'\n\
         [[gateway.tls.certificates]]\ncert = 'other.pem'\nkey = 'other.key'",
    );
    let name = |path: &Path| path.display().to_string();
    let list = ["project", "list", "--config", &file];
    let from = |mut command: std::process::Command| {
        command.current_dir(&elsewhere);
        command
    };
    let said = fails(&mut from(selkie(&list)));
    assert!(said.contains(&name(&dir.join("data has no up.json"))), "{said}");
    let said = fails(from(selkie(&list)).env("SELKIE_DATA_DIR", "data"));
    assert!(said.contains(&name(&elsewhere.join("data has no up.json"))), "{said}");
    let said = fails(&mut from(selkie(&[&list[..], &["--data-dir", "of/flag"]].concat())));
    assert!(
        said.contains(&name(&elsewhere.join("of/flag has no up.json"))),
        "{said}"
    );

    let gateway = ["gateway", "--config", &file, "--data-dir", "data"];
    let said = refusal(&mut from(selkie(&gateway)));
    assert!(said.contains(&name(&dir.join("of-operator/cert.pem"))), "{said}");
    fs::create_dir(dir.join("of-operator")).unwrap();
    let authority = from(selkie(&["certificates", "made"])).output().unwrap();
    assert!(authority.status.success(), "{authority:?}");
    for (made, used) in [("gateway.pem", "cert.pem"), ("gateway.key", "key.pem")] {
        fs::copy(elsewhere.join("made").join(made), dir.join("of-operator").join(used)).unwrap();
    }
    let said = refusal(&mut from(selkie(&gateway)));
    assert!(said.contains(&name(&dir.join("other.pem"))), "{said}");
    // From the command line it is not the file's, though the file has its own.
    let said = refusal(from(selkie(&gateway)).env("SELKIE_GATEWAY__TLS__CERT", "mine.pem"));
    assert!(said.contains(&name(&elsewhere.join("mine.pem"))), "{said}");
    let said = fails(from(selkie(&gateway)).env("SELKIE_GATEWAY__TLS__CERT", ""));
    assert!(
        said.contains("gateway.tls.cert") && said.contains("must be a path"),
        "{said}"
    );
}

/// What a service says last that does not start; it may log before.
fn refusal(command: &mut std::process::Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_value_of_the_wrong_type_is_told_in_the_form_that_is_meant() {
    let dir = tempfile::tempdir().unwrap();
    for (text, hint) in [
        ("gateway.login_timeout = 60", "a time has its unit, as \"60s\""),
        ("control.suspend.after = 300", "a time has its unit, as \"300s\""),
        ("gateway.park_after = 1.5", "a time has its unit, as \"1.5s\""),
        ("gateway.listen = 3307", "as \"127.0.0.1:3307\""),
        ("gateway.max_clients = \"60s\"", "a number, without quotes"),
        ("control.default_size_cu = \"0.5\"", "a number, without quotes"),
        ("gateway.sni_domains = \"db.example.org\"", "a list, as [\"...\"]"),
        ("control.process.uid_range = 200000", "write \"200000\""),
    ] {
        let file = settings(dir.path(), text);
        let said = fails(&mut selkie(&["gateway", "--config", &file]));
        let key = text.split(" =").next().unwrap();
        assert!(said.contains(hint) && said.contains(key), "{text}: {said}");
    }
    let said = fails(selkie(&["gateway"]).env("SELKIE_GATEWAY__LOGIN_TIMEOUT", "60"));
    assert!(said.contains("as \"60s\""), "{said}");
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

use std::io::Write;
use std::process::Stdio;

use crate::stage::{ControlPlane, fails, selkie, succeeds};

const COMPUTE: &str = r#"{"state":"ready","incarnation":7,"size_cu":0.25,"since":"2026-01-02T03:04:05Z","kept_awake_by":["1 command in flight"]}"#;

fn project(id: &str) -> String {
    format!(r#"{{"id":"{id}","size_cu":0.25,"created_at":"2026-01-01T00:00:00Z","compute":{COMPUTE}}}"#)
}

fn with(control: &ControlPlane, args: &[&str]) -> std::process::Command {
    let mut command = selkie(&[&["--url", &control.url], args].concat());
    command.env("SELKIE_API_KEY", "the-key");
    command
}

#[test]
fn a_list_goes_on_until_the_last_page() {
    let page = |projects: &str, next: &str| ("200 OK", format!(r#"{{"projects":[{projects}]{next}}}"#));
    let script = vec![page(&project("one"), r#","next":"one""#), page(&project("two"), "")];
    let control = ControlPlane::start(script);
    insta::assert_snapshot!(succeeds(&mut with(&control, &["project", "list"])), @r"
    PROJECT  STATE  CU    CREATED
    one      ready  0.25  2026-01-01T00:00:00Z
    two      ready  0.25  2026-01-01T00:00:00Z
    ");
    let asked = control.asked();
    assert_eq!(asked[0].line, "GET /api/v1/projects");
    assert_eq!(asked[1].line, "GET /api/v1/projects?after=one");
    assert!(asked.iter().all(|request| request.authorization == "Bearer the-key"));
}

#[test]
fn a_compute_is_shown_to_people_and_to_scripts() {
    let control = ControlPlane::start(vec![("200 OK", COMPUTE.into()), ("200 OK", COMPUTE.into())]);
    insta::assert_snapshot!(succeeds(&mut with(&control, &["compute", "show", "demo"])), @r"
    state          ready
    since          2026-01-02T03:04:05Z
    incarnation    7
    size           0.25 CU
    kept awake by  1 command in flight
    ");
    let json = succeeds(&mut with(&control, &["compute", "wake", "demo", "--json"]));
    let shown: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(shown, serde_json::from_str::<serde_json::Value>(COMPUTE).unwrap());
    let asked = control.asked();
    assert_eq!(asked[0].line, "GET /api/v1/projects/demo/compute");
    assert_eq!(asked[1].line, "POST /api/v1/projects/demo/compute/wake");
}

#[test]
fn a_password_comes_from_standard_input_and_is_not_shown() {
    let made = r#"{"name":"app","admin":true,"created_at":"2026-01-01T00:00:00Z"}"#;
    let control = ControlPlane::start(vec![("201 Created", made.into())]);
    let args = ["user", "create", "demo", "app", "--admin", "--password-stdin"];
    let mut running = with(&control, &args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    running.stdin.take().unwrap().write_all(b"a secret\n").unwrap();
    let output = running.wait_with_output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, "user app; log in as demo.app\n");
    let asked = control.asked();
    assert_eq!(asked[0].line, "POST /api/v1/projects/demo/users");
    let body: serde_json::Value = serde_json::from_str(&asked[0].body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"name": "app", "password": "a secret", "admin": true})
    );
}

#[test]
fn what_the_control_plane_refuses_is_told_in_its_words() {
    let problem = r#"{"type":"urn:selkie:problem:project_not_found","title":"no such project","status":404,"detail":"project nope does not exist","code":"project_not_found"}"#;
    let control = ControlPlane::start(vec![
        ("404 Not Found", problem.into()),
        ("502 Bad Gateway", "<html>".into()),
    ]);
    let said = fails(&mut with(&control, &["project", "show", "nope"]));
    assert_eq!(said, "selkie: project nope does not exist (project_not_found)\n");
    let said = fails(&mut with(&control, &["project", "delete", "nope"]));
    assert!(said.contains("502"), "{said}");
    drop(control.asked());
}

#[test]
fn names_cannot_lead_elsewhere() {
    let control = ControlPlane::start(vec![("200 OK", project("x"))]);
    let said = fails(&mut with(&control, &["project", "delete", ".."]));
    assert!(said.contains("`..` is not a name"), "{said}");
    succeeds(&mut with(&control, &["project", "show", "../users?x"]));
    assert_eq!(control.asked()[0].line, "GET /api/v1/projects/..%2Fusers%3Fx");
}

#[test]
fn a_control_plane_that_does_not_answer_is_named() {
    // Bound and not listening any more: refused at once.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{address}");
    let said = fails(selkie(&["--url", &url, "project", "list"]).env("SELKIE_API_KEY", "k"));
    assert!(said.contains(&url) && said.contains("selkie up"), "{said}");
}

#[test]
fn the_key_may_stand_in_a_file() {
    let control = ControlPlane::start(vec![("200 OK", COMPUTE.into())]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "of-the-file\n").unwrap();
    let path = file.path().display().to_string();
    succeeds(&mut with(
        &control,
        &["compute", "show", "demo", "--api-key-file", &path],
    ));
    assert_eq!(control.asked()[0].authorization, "Bearer of-the-file");
}

use std::io::Write;
use std::process::Stdio;

use crate::stage::{ControlPlane, fails, fails_at_a_terminal, fails_with, selkie, succeeds, succeeds_at_a_terminal};

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
    let said = fails_with(4, &mut with(&control, &["project", "show", "nope"]));
    assert_eq!(
        said,
        "selkie: project nope does not exist (project_not_found); `selkie project list` shows those there are\n"
    );
    let said = fails_with(3, &mut with(&control, &["project", "delete", "nope", "--yes"]));
    assert!(said.contains("502"), "{said}");
    drop(control.asked());
}

#[test]
fn what_a_compute_did_is_listed_the_latest_first_over_pages() {
    let made = |id: u32, from: &str, to: &str, reason: &str| {
        format!(
            r#"{{"id":{id},"incarnation":3,"from":"{from}","to":"{to}","at":"2026-01-01T00:00:0{id}.000Z"{reason}}}"#
        )
    };
    let page = |made: &str, next: &str| ("200 OK", format!(r#"{{"transitions":[{made}]{next}}}"#));
    let script = || {
        vec![
            page(
                &made(2, "ready", "suspended", r#","reason":"it was idle""#),
                r#","next":"2""#,
            ),
            page(&made(1, "starting", "ready", ""), ""),
        ]
    };
    let control = ControlPlane::start(script());
    let args = ["compute", "history", "demo", "--limit", "3"];
    insta::assert_snapshot!(succeeds(&mut with(&control, &args)), @r"
    AT                        INCARNATION  FROM      TO         BECAUSE
    2026-01-01T00:00:02.000Z  3            ready     suspended  it was idle
    2026-01-01T00:00:01.000Z  3            starting  ready
    ");
    let asked: Vec<_> = control.asked().into_iter().map(|request| request.line).collect();
    let list = "GET /api/v1/projects/demo/compute/transitions";
    assert_eq!(asked, [format!("{list}?limit=3"), format!("{list}?limit=2&after=2")]);
    let control = ControlPlane::start(script());
    let json = succeeds(&mut with(&control, &["compute", "history", "demo", "--json"]));
    let listed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&listed[0]["id"], &listed[1]["to"]), (&2.into(), &"ready".into()));
}

const OPERATION: &str = r#"{"id":"00f","project":"demo","kind":"start","state":"failed","step":"starting","error":"no room","incarnation":7,"requested_by":"control","created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:01Z","ended_at":"2026-01-01T00:00:01Z"}"#;
const RUNNING: &str = r#"{"id":"00e","project":"demo","kind":"delete","state":"running","step":"stopping","requested_by":"api","created_at":"2026-01-01T00:00:00Z","updated_at":"2026-01-01T00:00:00Z"}"#;

#[test]
fn operations_are_listed_and_shown_with_what_went_wrong() {
    let script = [
        format!(r#"{{"operations":[{OPERATION}],"next":"00f"}}"#),
        format!(r#"{{"operations":[{RUNNING}]}}"#),
        OPERATION.into(),
        OPERATION.into(),
    ];
    let control = ControlPlane::start(script.map(|body| ("200 OK", body)).into());
    insta::assert_snapshot!(succeeds(&mut with(&control, &["operations", "list", "demo"])));
    insta::assert_snapshot!(succeeds(&mut with(&control, &["operations", "show", "00f"])));
    let json = succeeds(&mut with(&control, &["operations", "show", "00f", "--json"]));
    let shown: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(shown, serde_json::from_str::<serde_json::Value>(OPERATION).unwrap());
    let asked: Vec<_> = control.asked().into_iter().map(|request| request.line).collect();
    let list = "GET /api/v1/projects/demo/operations";
    let show = "GET /api/v1/operations/00f";
    assert_eq!(
        asked,
        [
            &format!("{list}?limit=50"),
            &format!("{list}?limit=49&after=00f"),
            show,
            show
        ]
    );
}

#[test]
fn names_cannot_lead_elsewhere() {
    let control = ControlPlane::start(vec![("200 OK", project("x"))]);
    let said = fails(&mut with(&control, &["project", "delete", "..", "--yes"]));
    assert!(said.contains("`..` is not a name"), "{said}");
    succeeds(&mut with(&control, &["project", "show", "../users?x", "--json"]));
    assert_eq!(control.asked()[0].line, "GET /api/v1/projects/..%2Fusers%3Fx");
}

#[test]
fn nothing_is_deleted_before_somebody_is_sure() {
    let ends = [
        (&["project", "delete", "demo"][..], "demo", "/projects/demo"),
        (&["user", "delete", "demo", "app"], "app", "/projects/demo/users/app"),
        (
            &["database", "delete", "demo", "shop"],
            "shop",
            "/projects/demo/databases/shop",
        ),
        (&["key", "delete", "ci"], "ci", "/keys/ci"),
    ];
    let script = ends
        .iter()
        .flat_map(|_| [("204 No Content", String::new()), ("204 No Content", String::new())]);
    let control = ControlPlane::start(script.collect());
    for (args, name, _) in ends {
        let said = fails(&mut with(&control, args));
        assert!(
            said.contains(&format!("{name} is not deleted")) && said.contains("--yes"),
            "{said}"
        );
        let said = fails_at_a_terminal(&with(&control, args), "y\n");
        assert!(
            said.contains("Type its name to go on:") && said.contains("\"y\" is not its name"),
            "{said}"
        );
        succeeds(&mut with(&control, &[args, &["--yes"]].concat()));
        let said = succeeds_at_a_terminal(&with(&control, args), &format!("{name}\n"));
        assert!(said.contains(&format!("{name} is gone")), "{said}");
    }
    let asked: Vec<_> = control.asked().into_iter().map(|request| request.line).collect();
    let expected = ends.map(|(.., path)| format!("DELETE /api/v1{path}"));
    assert_eq!(
        asked,
        expected
            .iter()
            .flat_map(|line| [line.clone(), line.clone()])
            .collect::<Vec<_>>()
    );
}

#[test]
fn a_control_plane_that_does_not_answer_is_named() {
    // Bound and not listening any more: refused at once.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{address}");
    let said = fails_with(
        3,
        selkie(&["--url", &url, "project", "list"]).env("SELKIE_API_KEY", "k"),
    );
    assert!(said.contains(&url) && said.contains("selkie up"), "{said}");
}

#[test]
fn what_is_no_control_plane_is_told_so() {
    let control = ControlPlane::start(vec![
        ("404 Not Found", "<html>nothing here".into()),
        ("200 OK", "<html>welcome".into()),
        ("200 OK", r#"{"version":"another product's"}"#.into()),
    ]);
    let said = fails(&mut with(&control, &["project", "show", "demo"]));
    assert!(
        said.contains("404 Not Found, and not as a control plane does") && said.contains("--url"),
        "{said}"
    );
    assert!(
        said.contains(&format!("{}/api/v1/projects/demo", control.url)),
        "{said}"
    );
    let said = fails(&mut with(&control, &["project", "show", "demo", "--json"]));
    assert!(
        said.contains("does not answer as this version's control plane does"),
        "{said}"
    );
    let said = fails(&mut with(&control, &["project", "show", "demo", "--json"]));
    assert!(said.contains("missing field `id`"), "{said}");
    drop(control.asked());
    // As a MySQL port does.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let greets = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        connection.write_all(b"J\0\0\0\x0a10.11.19-MariaDB").unwrap();
    });
    let said = fails_with(
        3,
        selkie(&["--url", &url, "project", "list"]).env("SELKIE_API_KEY", "k"),
    );
    assert!(said.contains(&url) && said.contains("is no control plane"), "{said}");
    greets.join().unwrap();
}

#[test]
fn what_an_account_requires_is_shown() {
    let user = r#"{"name":"app","admin":false,"source":"sql","host":"%","require":"ISSUER '/CN=it''s'"}"#;
    let plain = r#"{"name":"old","admin":false,"source":"api","host":"%","created_at":"x"}"#;
    let script = [format!(r#"{{"users":[{user},{plain}]}}"#), user.into()];
    let control = ControlPlane::start(script.map(|body| ("200 OK", body)).into());
    insta::assert_snapshot!(succeeds(&mut with(&control, &["user", "list", "demo"])), @r"
    USER  ADMIN  MADE BY  HOST  REQUIRE             CREATED  CANNOT LOG IN BECAUSE
    app   no     sql      %     ISSUER '/CN=it''s'
    old   no     api      %                         x
    ");
    insta::assert_snapshot!(succeeds(&mut with(&control, &["user", "show", "demo", "app"])), @r"
    user        app
    logs in as  demo.app
    admin       no
    made by     sql
    host        %
    require     ISSUER '/CN=it''s'
    ");
    drop(control.asked());
}

#[test]
fn a_network_that_is_allowed_swallows_no_name() {
    let control = ControlPlane::start(vec![("201 Created", project("inner"))]);
    let networks = ["--allow-network", "10.0.0.0/8", "--allow-network", "192.0.2.7"];
    succeeds(&mut with(
        &control,
        &[&["project", "create"], &networks[..], &["inner"]].concat(),
    ));
    let body: serde_json::Value = serde_json::from_str(&control.asked()[0].body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"id": "inner", "allowed_networks": ["10.0.0.0/8", "192.0.2.7"]})
    );
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

#[test]
fn a_project_is_changed_in_what_is_named() {
    let changed = project("demo").replacen("0.25", "2.0", 1);
    let script = (0..3).map(|_| ("200 OK", changed.clone())).collect();
    let control = ControlPlane::start(script);
    let run = |args: &[&str]| succeeds(&mut with(&control, &[&["project", "set", "demo"], args].concat()));
    let said = run(&["--size-cu", "2", "--wake-timeout", "90s"]);
    let last = said.lines().last().unwrap_or_default();
    assert!(said.contains("size                 0.25 CU\n"), "{said}");
    assert_eq!(last, "next start's size    2 CU", "it runs on as it was started");
    run(&["--size-cu", "default", "--wake-timeout", "default"]);
    run(&["--suspend-after", "never"]);
    let bodies: Vec<serde_json::Value> = control
        .asked()
        .iter()
        .inspect(|request| assert_eq!(request.line, "PATCH /api/v1/projects/demo"))
        .map(|request| serde_json::from_str(&request.body).unwrap())
        .collect();
    assert_eq!(
        bodies,
        [
            serde_json::json!({"size_cu": 2.0, "wake_timeout": "90s"}),
            serde_json::json!({"size_cu": null, "wake_timeout": null}),
            serde_json::json!({"suspend_after": "never"}),
        ]
    );
}

#[test]
fn a_change_of_nothing_is_a_wrong_command_line() {
    let output = selkie(&["project", "set", "demo"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--size-cu") && said.contains("--suspend-after"), "{said}");
}

#[test]
fn a_size_is_a_number() {
    for (args, hint) in [
        (&["set", "demo", "--size-cu", "large"][..], "such as 0.5, or `default`"),
        (&["set", "demo", "--size-cu", "nan"], "such as 0.5, or `default`"),
        (&["create", "demo", "--size-cu", "inf"], "such as 0.5"),
    ] {
        let output = selkie(&[&["project"], args].concat()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(hint), "{said}");
    }
}

#[test]
fn a_project_is_shown_whole_with_what_sleeping_loses() {
    let user = r#"{"users":[{"name":"app","admin":false,"created_at":"x"}]}"#;
    let databases = r#"{"databases":[{"name":"shop","made_by_api":true},{"name":"old","made_by_api":false}]}"#;
    let settings = format!(r#"{{"settings":[{SETTING},{UNSET}]}}"#);
    let script = [project("demo"), user.into(), databases.into(), settings];
    let control = ControlPlane::start(script.map(|body| ("200 OK", body)).into());
    insta::assert_snapshot!(succeeds(&mut with(&control, &["project", "show", "demo"])));
    drop(control.asked());
}

const SETTING: &str = r#"{"name":"sql_mode","value":"ANSI_QUOTES","is_set":true,"default":"","running":"ANSI_QUOTES","applies":"live","takes":"modes","description":"What SQL is accepted."}"#;
const UNSET: &str = r#"{"name":"ft_min_word_len","value":"4","is_set":false,"default":"4","applies":"next_start","takes":"1 to 84","description":"The shortest word."}"#;

#[test]
fn settings_are_listed_shown_set_and_unset() {
    let list = format!(r#"{{"settings":[{SETTING},{UNSET}]}}"#);
    let set = format!(r#"{{"settings":[{SETTING}]}}"#);
    let script = vec![
        ("200 OK", list.clone()),
        ("200 OK", list),
        ("200 OK", UNSET.into()),
        ("200 OK", set.clone()),
        ("200 OK", set),
    ];
    let control = ControlPlane::start(script);
    let run = |args: &[&str]| succeeds(&mut with(&control, &[&["settings"], args].concat()));
    insta::assert_snapshot!(run(&["list", "demo"]), @r"
    SETTING   VALUE        DEFAULT  RUNNING      APPLIES
    sql_mode  ANSI_QUOTES           ANSI_QUOTES  live
    ");
    insta::assert_snapshot!(run(&["list", "demo", "--all"]), @r"
    SETTING          VALUE        DEFAULT  RUNNING      APPLIES
    sql_mode         ANSI_QUOTES           ANSI_QUOTES  live
    ft_min_word_len  4            4        -            next start
    ");
    insta::assert_snapshot!(run(&["get", "demo", "ft_min_word_len"]), @r"
    setting  ft_min_word_len
    value    4
    default  4
    is set   no
    applies  next start
    takes    1 to 84
    what     The shortest word.
    ");
    run(&["set", "demo", "sql_mode=ANSI=x", "wait_timeout=60"]);
    run(&["unset", "demo", "sql_mode"]);
    let asked = control.asked();
    assert_eq!(asked[3].line, "PATCH /api/v1/projects/demo/settings");
    let body = |at: usize| serde_json::from_str::<serde_json::Value>(&asked[at].body).unwrap();
    assert_eq!(body(3), serde_json::json!({"sql_mode": "ANSI=x", "wait_timeout": "60"}));
    assert_eq!(body(4), serde_json::json!({"sql_mode": null}));
}

#[test]
fn keys_and_the_audit_log_are_shown() {
    let key =
        r#"{"name":"ci","scope":"project","project":"demo","created_at":"x","expires_at":"2027-01-01T00:00:00Z"}"#;
    let made = r#"{"name":"ci","scope":"project","project":"demo","created_at":"x","key":"selkie_key_x"}"#;
    let entry = |id| {
        format!(
            r#"{{"id":{id},"at":"2026-01-01T00:00:00Z","key":"ci","method":"POST","path":"/api/v1/projects/demo/users","project":"demo","changed":{{"name":"app"}},"status":201,"request_id":"r"}}"#
        )
    };
    let script = vec![
        ("200 OK", format!(r#"{{"keys":[{key}]}}"#)),
        ("201 Created", made.into()),
        (
            "200 OK",
            format!(r#"{{"entries":[{},{}],"next":"8"}}"#, entry(9), entry(8)),
        ),
        ("200 OK", format!(r#"{{"entries":[{}]}}"#, entry(7))),
    ];
    let control = ControlPlane::start(script);
    let run = |args: &[&str]| succeeds(&mut with(&control, args));
    insta::assert_snapshot!(run(&["key", "list"]), @r"
    KEY  SCOPE    PROJECT  EXPIRES               LAST USED
    ci   project  demo     2027-01-01T00:00:00Z  not yet
    ");
    let said = run(&[
        "key",
        "create",
        "ci",
        "--scope",
        "project",
        "--project",
        "demo",
        "--expires-in",
        "90d",
    ]);
    assert_eq!(said, "key ci; it is told only now\nselkie_key_x\n");
    let log = run(&["audit", "demo", "--limit", "3"]);
    assert_eq!(log.lines().count(), 4, "{log}");
    assert!(log.contains(r#"201     {"name":"app"}"#), "{log}");
    let asked = control.asked();
    let body: serde_json::Value = serde_json::from_str(&asked[1].body).unwrap();
    let wanted = serde_json::json!({"name": "ci", "scope": "project", "project": "demo", "expires_in": "90d"});
    assert_eq!(body, wanted);
    assert_eq!(asked[2].line, "GET /api/v1/projects/demo/audit?limit=3");
    assert_eq!(asked[3].line, "GET /api/v1/projects/demo/audit?limit=1&after=8");
}

#[test]
fn a_password_is_changed_and_a_generated_one_is_told() {
    let changed = r#"{"name":"app","admin":false,"created_at":"x","password":"generated"}"#;
    let control = ControlPlane::start(vec![("200 OK", changed.into())]);
    let said = succeeds(&mut with(&control, &["user", "set-password", "demo", "app"]));
    assert_eq!(said, "user app has a new password\ngenerated\n");
    let asked = control.asked();
    assert_eq!(asked[0].line, "PATCH /api/v1/projects/demo/users/app");
    assert_eq!(asked[0].body, "{}");
}

#[test]
fn completion_is_written_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let script = succeeds(&mut selkie(&["completion", shell]));
        for word in [
            "set-password",
            "settings",
            "audit",
            "operations",
            "history",
            "pinned-idle-timeout",
        ] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    // bash itself reads it and completes with it.
    let script = format!(
        "{}\nCOMP_WORDS=(selkie comp); COMP_CWORD=1; _selkie selkie comp selkie; echo \"${{COMPREPLY[@]}}\"",
        succeeds(&mut selkie(&["completion", "bash"]))
    );
    // In a file, for it is longer than an argument may be.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("complete.bash");
    std::fs::write(&file, script).unwrap();
    let said = succeeds(std::process::Command::new("bash").arg(&file));
    assert!(said.contains("compute") && said.contains("completion"), "{said}");
}

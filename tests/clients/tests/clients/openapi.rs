//! The REST interface is what /openapi.json says: schemathesis makes requests from the document, right ones and wrong ones,
//! and holds every answer to it.

use std::process::Stdio;
use std::time::Duration;

use clients::installed;
use harness::Selkie;
use tokio::process::Command;
use tokio::time::timeout;

/// A guard against hanging only: it is through in half a minute on a quiet machine.
const LIMIT: Duration = Duration::from_secs(240);

/// Of what schemathesis knows to check: that nothing is a 500, that status, type, headers and body of every answer are in the
/// document, and that what the document forbids is refused. Not that what it allows is taken: names that are there
/// already, or quotas, are nothing that a document can tell.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,negative_data_rejection";

#[tokio::test]
async fn rest_answers_made_up_requests_as_its_document_says() {
    // One of its own: it may remove what others would use.
    let selkie = Selkie::start().await;
    let mut command = Command::new(installed(&["python"]));
    command
        .args(["-m", "schemathesis.cli", "run"])
        .arg(format!(
            "{}/openapi.json",
            selkie.up().rest.url.trim_end_matches("/api/v1")
        ))
        .args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", "5"])
        .args(["--continue-on-failure", "--no-shrink", "--no-color"])
        // Not on the command line, where others could read it.
        .current_dir(selkie.dir())
        .env("SELKIE_KEY", &selkie.up().rest.api_key);
    std::fs::write(
        selkie.dir().join("schemathesis.toml"),
        "[headers]\nAuthorization = \"Bearer ${SELKIE_KEY}\"\n",
    )
    .expect("its settings");
    let run = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let done = timeout(LIMIT, run)
        .await
        .expect("schemathesis ends")
        .expect("schemathesis");
    let report = String::from_utf8_lossy(&done.stdout);
    assert!(
        done.status.success(),
        "{report}{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert!(
        report.contains("Tested: ") && !report.contains("Skipped:"),
        "operations were left out: {report}"
    );
}

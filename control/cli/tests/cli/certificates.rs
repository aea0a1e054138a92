use std::fs;

use crate::stage::{fails, selkie, succeeds};

#[test]
fn certificates_are_not_overwritten_unless_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let make = |more: &[&str]| {
        let mut command = selkie(&[&["certificates", "made"], more].concat());
        command.current_dir(dir.path());
        command
    };
    let printed = succeeds(&mut make(&[
        "--control",
        "control.example.net",
        "--control",
        "192.0.2.7",
    ]));
    let made = dir.path().canonicalize().unwrap().join("made");
    let read = |name: &str| fs::read_to_string(made.join(name)).unwrap();
    let before = ["ca.pem", "control.pem", "gateway.key"].map(read);
    for (setting, file) in [("cert", "control.pem"), ("ca", "ca.pem"), ("key", "gateway.key")] {
        let line = format!("{setting} = \"{}\"", made.join(file).display());
        assert!(printed.lines().any(|said| said == line), "{line}: {printed}");
    }
    let said = fails(&mut make(&[]));
    assert!(
        said.contains("control.pem is there already") && said.contains("--force"),
        "{said}"
    );
    assert_eq!(["ca.pem", "control.pem", "gateway.key"].map(read), before);
    succeeds(&mut make(&["--force"]));
    let [authority, control, gateway] = ["ca.pem", "control.pem", "gateway.key"].map(read);
    assert_eq!(authority, before[0], "an authority stays");
    assert!(control != before[1] && gateway != before[2]);
}

#[test]
fn an_authority_of_which_a_half_is_there_is_not_made_anew() {
    for (taken, left) in [("ca.pem", "ca.key"), ("ca.key", "ca.pem")] {
        let dir = tempfile::tempdir().unwrap();
        let made = dir.path().to_str().unwrap();
        succeeds(&mut selkie(&["certificates", made]));
        fs::remove_file(dir.path().join(taken)).unwrap();
        let before = fs::read(dir.path().join(left)).unwrap();
        let said = fails(&mut selkie(&["certificates", made, "--force"]));
        assert!(said.contains(left) && said.contains(taken), "{said}");
        assert_eq!(fs::read(dir.path().join(left)).unwrap(), before);
    }
}

#[test]
fn a_name_that_is_none_is_no_reason_to_make_anything() {
    let dir = tempfile::tempdir().unwrap();
    let made = dir.path().join("made");
    for name in [
        "https://control.example.net",
        "control.example.net:7301",
        "two words",
        "10.0.0.300",
        "",
    ] {
        let made = made.to_str().unwrap();
        let output = selkie(&["certificates", made, "--control", name]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{name:?}: {said}");
        assert!(said.contains("without scheme and port"), "{name:?}: {said}");
    }
    assert!(!made.exists());
}

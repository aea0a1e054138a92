//! Every secret that the tests make or find, and whether one of them stands where others can read it: in a log, a command
//! line, an environment.
//!
//! Passwords are kept when a user is made with them, and are looked for in the forms that leave a way in: in the clear, as
//! quoted texts have them, and as the verifiers that control and mariadbd keep. What Selkie makes by itself (keys, tokens, the gateway's
//! secret of each incarnation, private keys) is read from its data directory. All of one test process are known to all of
//! its Selkies: one that turns up at another is worse, not better.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aho_corasick::AhoCorasick;
use serde_json::Value;
use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::process;

/// Shorter ones stand in many texts by chance.
const BYTES_MIN: usize = 7;
/// Programs of ours, by their names for the kernel; the clients that tests run are told passwords as their users like it.
const OURS: [&str; 2] = ["selkie", "mariadbd"];

/// What is looked for, in lower case, and how it is called: its value is told to nobody.
static KNOWN: Mutex<BTreeMap<Vec<u8>, String>> = Mutex::new(BTreeMap::new());

/// Keeps a password that `whose` logs in with.
pub fn password(whose: &str, password: &str) {
    let bytes = password.as_bytes();
    let quoted = format!("{password:?}");
    keep(format!("the password of {whose}"), bytes);
    keep(
        format!("the password of {whose}, escaped"),
        quoted.trim_matches('"').as_bytes(),
    );
    verifiers(whose, bytes);
}

/// Keeps anything else.
pub fn token(what: &str, value: &str) {
    keep(what.to_owned(), value.as_bytes());
}

/// Keeps passwords and API keys of what was sent to the API or the command line, or came back; `what` says of where.
pub fn of_json(what: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if name == "password" => password(what, text),
                    // In other places it is the name of a key.
                    Some(text) if name == "key" && text.starts_with("selkie_key_") => {
                        token(&format!("an API key of {what}"), text)
                    }
                    _ => of_json(what, value),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| of_json(what, value)),
        _ => {}
    }
}

/// Keeps what Selkie itself has made below its data directory so far.
pub fn of_data_dir(dir: &Path) {
    for (file, what) in [
        ("control/gateway.token", "the gateway's token"),
        ("control/api.key", "an API key"),
    ] {
        if let Ok(text) = fs::read_to_string(dir.join(file)) {
            token(what, text.trim());
        }
    }
    let keys = fs::read_to_string(dir.join("control/store.keys")).unwrap_or_default();
    for line in keys.lines().filter(|line| !line.starts_with('#')) {
        token("a key of the state", line);
    }
    for project in entries(&dir.join("projects")) {
        let spec = fs::read(project.join("spec.json")).ok();
        let Some(spec) = spec.and_then(|text| serde_json::from_slice::<Value>(&text).ok()) else {
            continue;
        };
        if let Some(hex) = spec["gateway_secret_hex"].as_str().filter(|hex| !hex.is_empty()) {
            let whose = format!("the gateway at {}", project.display());
            token(&format!("the secret of {whose}"), hex);
            verifiers(&whose, &unhex(hex));
        }
        for account in spec["accounts"].as_array().into_iter().flatten() {
            let hash = account["native_sha1_hex"].as_str().unwrap_or_default();
            token(&format!("a verifier in {}/spec.json", project.display()), hash);
        }
    }
    for key in files(dir)
        .iter()
        .filter(|file| file.extension().is_some_and(|kind| kind == "key"))
    {
        let text = fs::read_to_string(key).unwrap_or_default();
        // Lines of base64; the first ones of all keys of a kind begin alike, but none is alike to its end.
        for line in text.lines().filter(|line| !line.starts_with('-')) {
            token(&format!("a line of the private key {}", key.display()), line);
        }
    }
}

/// Looks for all that was known when it was made.
struct Search {
    names: Vec<String>,
    automaton: AhoCorasick,
}

/// Made again when more is known: making it costs more than searching most texts.
static SEARCH: Mutex<Option<Arc<Search>>> = Mutex::new(None);

fn search() -> Arc<Search> {
    let mut search = SEARCH.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known();
    if let Some(search) = search.as_ref().filter(|search| search.names.len() == known.len()) {
        return Arc::clone(search);
    }
    let (values, names): (Vec<_>, Vec<_>) = known.iter().map(|(value, name)| (value, name.clone())).unzip();
    // Nothing may be logged of a secret in another case either: hashes are written in both.
    let automaton = AhoCorasick::builder().ascii_case_insensitive(true).build(values);
    let automaton = automaton.expect("the secrets are not too many to search for");
    let made = Arc::new(Search { names, automaton });
    *search = Some(Arc::clone(&made));
    made
}

/// Names of the secrets that stand in `text`.
pub fn found_in(text: &[u8]) -> Vec<String> {
    let search = search();
    let hits = search.automaton.find_overlapping_iter(text);
    let mut found: Vec<String> = hits.map(|hit| search.names[hit.pattern().as_usize()].clone()).collect();
    found.sort();
    found.dedup();
    found
}

/// Secrets in command lines and environments of Selkie's processes below `dir`, each with where it is.
pub fn found_in_processes(dir: &Path) -> Vec<String> {
    let pids = process::of_directory(dir);
    let ours = OURS.iter().flat_map(|name| process::running(&pids, name));
    let mut found = Vec::new();
    for pid in ours {
        for part in ["cmdline", "environ"] {
            // Gone meanwhile, or of another user where tests do not run as root.
            let text = fs::read(format!("/proc/{pid}/{part}")).unwrap_or_default();
            found.extend(
                found_in(&text)
                    .into_iter()
                    .map(|name| format!("/proc/{pid}/{part}: {name}")),
            );
        }
    }
    found
}

/// How many are known: a text that was searched before they grew has to be searched again.
pub fn count() -> usize {
    known().len()
}

fn verifiers(whose: &str, secret: &[u8]) {
    let (sha1, sha2) = (
        Sha1::digest(Sha1::digest(secret)),
        Sha256::digest(Sha256::digest(secret)),
    );
    let both = [("SHA1(SHA1)", sha1.to_vec()), ("SHA256(SHA256)", sha2.to_vec())];
    for (kind, bytes) in both {
        let name = format!("{kind} of what {whose} logs in with");
        keep(format!("{name}, in hex"), hex(&bytes).as_bytes());
        keep(format!("{name}, in base64"), base64(&bytes).as_bytes());
        keep(format!("{name}, as they are"), &bytes);
        // As Debug shows a Vec<u8>, and as prost's `bytes` have it.
        let list = format!("{bytes:?}");
        keep(format!("{name}, as numbers"), list.trim_matches(['[', ']']).as_bytes());
        keep(format!("{name}, escaped"), bytes.escape_ascii().to_string().as_bytes());
    }
}

fn keep(name: String, value: &[u8]) {
    if value.len() >= BYTES_MIN {
        known().entry(value.to_ascii_lowercase()).or_insert(name);
    }
}

fn known() -> std::sync::MutexGuard<'static, BTreeMap<Vec<u8>, String>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn entries(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Files of the directory and of those in it, but for the projects' own, which hold no keys.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let own = |path: &Path| {
        path.is_dir() && !path.is_symlink() && !path.ends_with("projects") && !path.ends_with("templates")
    };
    let (dirs, files): (Vec<_>, Vec<_>) = entries(dir).into_iter().partition(|path| own(path));
    files
        .into_iter()
        .chain(dirs.iter().flat_map(|dir| entries(dir)))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks_exact(2);
    let number = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.filter_map(number).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // Whole groups only: what is found without its last bytes is found too.
    let groups = bytes
        .chunks_exact(3)
        .map(|group| (usize::from(group[0]) << 16) | (usize::from(group[1]) << 8) | usize::from(group[2]));
    groups
        .flat_map(|bits| [18, 12, 6, 0].map(|shift| char::from(DIGITS[(bits >> shift) & 63])))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_password_is_found_in_every_form_that_leaves_a_way_in() {
        password("somebody", "se'cret \"of\" all");
        // By sha1sum, sha256sum and base64 of coreutils.
        let sha1 = Sha1::digest(Sha1::digest(b"se'cret \"of\" all"));
        for text in [
            "user=x password=se'cret \"of\" all!".to_owned(),
            format!("Password({:?})", "se'cret \"of\" all"),
            format!("*{}", hex(&sha1).to_uppercase()),
            format!("{:?}", sha1.to_vec()),
            format!("Account {{ native_sha1: b\"{}\" }}", sha1.escape_ascii()),
        ] {
            assert!(!found_in(text.as_bytes()).is_empty(), "{text}");
        }
        assert!(!found_in(&[&b"a row: "[..], &sha1, b"..."].concat()).is_empty());
        let told = found_in(b"se'cret \"of\" all").join(" ");
        assert!(told.contains("somebody") && !told.contains("cret"), "{told}");
        assert!(found_in(b"se'cret of all").is_empty());
    }

    #[test]
    fn base64_is_that_of_coreutils() {
        // printf abcdef | base64
        assert_eq!(base64(b"abcdef"), "YWJjZGVm");
    }

    #[test]
    fn a_secret_is_found_in_a_command_line_and_in_an_environment() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("selkie");
        fs::copy("/bin/cat", &program).unwrap();
        token("a token", "selkie_token_that_is_told");
        let started = |line: &str, environment: &str| {
            let mut command = Command::new(&program);
            command.arg0(format!("{} {line}", program.display()));
            command.env_clear().env("TOKEN", environment);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            // Neither can be read from outside before the program runs; one that answers does.
            child.stdin.as_mut().unwrap().write_all(b"?").unwrap();
            child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            child
        };
        for (line, environment, place) in [
            ("selkie_token_that_is_told", "", Some("cmdline")),
            ("", "selkie_token_that_is_told", Some("environ")),
            ("", "", None),
        ] {
            let mut child = started(line, environment);
            let found = found_in_processes(dir.path());
            child.kill().unwrap();
            child.wait().unwrap();
            let expected = place.map(|place| format!("/proc/{}/{place}: a token", child.id()));
            assert_eq!(found, Vec::from_iter(expected));
        }
    }

    #[test]
    fn what_selkie_has_made_is_read_from_its_data_directory() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("projects/p")).unwrap();
        fs::create_dir_all(dir.path().join("tls")).unwrap();
        let secret = "a1".repeat(32);
        let spec = format!(
            r#"{{"gateway_secret_hex":"{secret}","accounts":[{{"native_sha1_hex":"{}"}}]}}"#,
            "b2".repeat(20)
        );
        fs::write(dir.path().join("projects/p/spec.json"), spec).unwrap();
        fs::create_dir(dir.path().join("control")).unwrap();
        fs::write(
            dir.path().join("control/store.keys"),
            format!("# Keys\n{}\n", "c3".repeat(32)),
        )
        .unwrap();
        let key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGfactsOfTheKey\n-----END PRIVATE KEY-----\n";
        fs::write(dir.path().join("tls/gateway.key"), key).unwrap();
        of_data_dir(dir.path());
        for text in [
            secret,
            "B2".repeat(20),
            "C3".repeat(32),
            "migHAgEAMBMGByqGSM49AgEGfactsOfTheKey".into(),
        ] {
            assert_eq!(found_in(text.as_bytes()).len(), 1, "{text}");
        }
        assert!(found_in(b"-----BEGIN PRIVATE KEY-----").is_empty());
    }
}

//! `selkie certificates`: an authority of one's own, and what gateways and control planes on different machines show each
//! other. Whoever has a certificate of that authority and the gateways' token is a gateway, so `ca.key` stays at home.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use crate::arguments::Certificates;
use crate::client::print;
use crate::failure::Failure;

/// What a control plane is on its own machine.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Ten years: to change it, every service has to be given another at the same time.
const AUTHORITY_DAYS: u32 = 3653;
/// Two years: a key that was lost unnoticed is worth nothing after that, and what is renewed more often than people change
/// their posts is not forgotten. `SelkieCertificateEnds` reminds of it.
const SERVICE_DAYS: u32 = 730;
/// Clocks of other machines may be behind.
const EARLIER: Duration = DAY;
const DAY: Duration = Duration::from_secs(86_400);

/// Makes `control.pem` and `gateway.pem` with their keys, signed by the authority of the directory; `ca.pem` is made where
/// there is none, and never changed.
pub(crate) fn make(wish: &Certificates) -> Result<(), Failure> {
    let dir = std::path::absolute(&wish.dir).map_err(|e| Failure::of(wish.dir.display(), e))?;
    let dir = dir.as_path();
    let there = ["control.pem", "control.key", "gateway.pem", "gateway.key"].map(|name| dir.join(name));
    if let Some(there) = there.iter().find(|path| path.exists() && !wish.force) {
        return Err(Failure::new(format!(
            "{} is there already, and may be in use: --force puts new certificates in the place of those (the authority stays)",
            there.display()
        )));
    }
    std::fs::create_dir_all(dir).map_err(|e| Failure::of(dir.display(), e))?;
    let authority = authority(dir)?;
    let mut names: Vec<String> = LOCAL.map(str::to_owned).to_vec();
    names.extend(
        wish.control
            .iter()
            .filter(|name| !LOCAL.contains(&name.as_str()))
            .cloned(),
    );
    // A control plane that stands by calls the one that leads.
    let both = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    leaf(dir, "control", names, &both, &authority)?;
    leaf(dir, "gateway", vec!["gateway".into()], &both[1..], &authority)?;
    print(told(dir).as_bytes())
}

fn told(dir: &Path) -> String {
    let at = |name: &str| format!("{:?}", dir.join(name).display().to_string());
    format!(
        "# Good until {}; `selkie certificates --force` makes new ones\n\
         # For the control plane\n[control.grpc.tls]\ncert = {}\nkey = {}\nclient_ca = {}\n\n\
         # For gateways, beside address = \"https://...\" and a copy of the gateways' token\n\
         [gateway.control.tls]\nca = {}\ncert = {}\nkey = {}\n",
        day(end_of(SERVICE_DAYS)),
        at("control.pem"),
        at("control.key"),
        at("ca.pem"),
        at("ca.pem"),
        at("gateway.pem"),
        at("gateway.key"),
    )
}

/// The authority is its key and a fixed name: of an earlier run's only the key is read.
fn authority(dir: &Path) -> Result<Issuer<'static, KeyPair>, Failure> {
    let (cert, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    let making = |e| Failure::of("making an authority", e);
    let mut params = CertificateParams::new(Vec::<String>::new()).map_err(making)?;
    valid_for(&mut params, AUTHORITY_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "Selkie services");
    if cert.exists() != key.exists() {
        let (there, missing) = if cert.exists() { (&cert, &key) } else { (&key, &cert) };
        let problem = format!(
            "is there and {} is not, and both are one authority: put that one back, or name another directory",
            missing.display()
        );
        return Err(Failure::of(there.display(), problem));
    }
    let key_pair = if cert.exists() {
        KeyPair::from_pem(&read(&key)?).map_err(|e| Failure::of(key.display(), e))?
    } else {
        let key_pair = KeyPair::generate().map_err(making)?;
        let made = params.self_signed(&key_pair).map_err(making)?;
        write(&key, &key_pair.serialize_pem(), 0o600)?;
        write(&cert, &made.pem(), 0o644)?;
        key_pair
    };
    Ok(Issuer::new(params, key_pair))
}

/// Whole days, UTC: nobody reckons with more.
fn valid_for(params: &mut CertificateParams, days: u32) {
    let at = |(year, month, day)| date_time_ymd(year, month, day);
    params.not_before = at(date(SystemTime::now() - EARLIER));
    params.not_after = at(date(end_of(days)));
}

fn end_of(days: u32) -> SystemTime {
    SystemTime::now() + DAY * days
}

/// Year, month, day.
fn date(time: SystemTime) -> (i32, u8, u8) {
    let text = day(time);
    let mut parts = text.split('-');
    let year = parts.next().and_then(|part| part.parse().ok()).unwrap_or(1970);
    let mut next = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(1);
    (year, next(), next())
}

/// As 2026-11-25.
fn day(time: SystemTime) -> String {
    let mut text = humantime::format_rfc3339_seconds(time).to_string();
    text.truncate("2026-11-25".len());
    text
}

fn leaf(
    dir: &Path,
    who: &str,
    names: Vec<String>,
    uses: &[ExtendedKeyUsagePurpose],
    authority: &Issuer<'_, KeyPair>,
) -> Result<(), Failure> {
    let making = |e| Failure::of(format!("making the certificate of the {who}"), e);
    let key = KeyPair::generate().map_err(making)?;
    let mut params = CertificateParams::new(names).map_err(making)?;
    valid_for(&mut params, SERVICE_DAYS);
    params.extended_key_usages = uses.to_vec();
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Selkie {who}"));
    let made = params.signed_by(&key, authority).map_err(making)?;
    write(&dir.join(format!("{who}.key")), &key.serialize_pem(), 0o600)?;
    write(&dir.join(format!("{who}.pem")), &made.pem(), 0o644)
}

fn read(path: &PathBuf) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| Failure::of(path.display(), e))
}

/// Takes the place of an older file at once, so that nobody reads half of it, and never with an older file's mode.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    let beside = path.with_extension("new");
    let _ = std::fs::remove_file(&beside);
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let written = options.open(&beside).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        std::fs::rename(&beside, path)
    });
    written.map_err(|e| Failure::of(path.display(), e))
}

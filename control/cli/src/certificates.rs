//! `selkie certificates`: an authority of one's own, and what gateways and control planes on different machines show each
//! other. Whoever has a certificate of that authority and the gateways' token is a gateway, so `ca.key` stays at home.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::arguments::Certificates;
use crate::client::print;
use crate::failure::Failure;

/// What a control plane is on its own machine.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Makes `control.pem` and `gateway.pem` with their keys anew, signed by the authority of the directory; `ca.pem` is made
/// where there is none. What is made is good for as long as its key is kept secret: there is no date to miss.
pub(crate) fn make(wish: &Certificates) -> Result<(), Failure> {
    let dir = &wish.dir;
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
        "# For the control plane\n[control.grpc.tls]\ncert = {}\nkey = {}\nclient_ca = {}\n\n\
         # For gateways, beside address = \"https://...\" and a copy of the gateways' token\n\
         [gateway.control.tls]\nca = {}\ncert = {}\nkey = {}\n",
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
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "Selkie services");
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

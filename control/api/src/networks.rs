//! Networks of IP addresses, as people write them: `10.0.0.0/8`, `2001:db8::/32`, `192.0.2.7`.
//!
//! Control checks what it is given with this, the gateway looks clients' addresses up in it, so that both mean the same.

use std::net::IpAddr;

use ipnet::IpNet;

/// A list of networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Neither an address nor a network.
    #[error("{0:?} is not a network such as \"10.0.0.0/8\", \"2001:db8::/32\" or \"192.0.2.7\"")]
    Malformed(String),
    /// An address and a prefix that does not cover it: which of both was meant?
    #[error("{given:?} names an address inside of {network}: write \"{network}\", or the address without \"/\"")]
    HostBits {
        /// As written.
        given: String,
        /// What it lies in.
        network: String,
    },
}

impl Networks {
    /// Takes the texts apart.
    ///
    /// # Errors
    /// The first text that is no network.
    pub fn parse<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Result<Self, NetworkError> {
        texts
            .into_iter()
            .map(|text| network(text.as_ref()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Is this address in one of them? An IPv4 address inside of IPv6 is one of IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the one way to write each: sorted, without repetitions, single addresses without a prefix.
    pub fn texts(&self) -> Vec<String> {
        let mut networks = self.0.clone();
        networks.sort_unstable();
        networks.dedup();
        let text = |network: &IpNet| match network.prefix_len() == network.max_prefix_len() {
            true => network.addr().to_string(),
            false => network.to_string(),
        };
        networks.iter().map(text).collect()
    }
}

fn network(text: &str) -> Result<IpNet, NetworkError> {
    let malformed = || NetworkError::Malformed(text.to_owned());
    let network = match text.contains('/') {
        true => text.parse::<IpNet>().map_err(|_| malformed())?,
        false => IpNet::from(text.parse::<IpAddr>().map_err(|_| malformed())?.to_canonical()),
    };
    if network.trunc() != network {
        return Err(NetworkError::HostBits {
            given: text.to_owned(),
            network: network.trunc().to_string(),
        });
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_a_network_or_not() {
        let networks = Networks::parse(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]).unwrap();
        for (ip, is_in) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.1.2.3", true),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("::1", false),
        ] {
            assert_eq!(networks.contains(ip.parse().unwrap()), is_in, "{ip}");
        }
        assert!(!Networks::default().contains("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn each_is_written_in_one_way() {
        let networks = Networks::parse([
            "192.0.2.7/32",
            "10.0.0.0/8",
            "192.0.2.7",
            "2001:DB8::/32",
            "::ffff:1.2.3.4",
        ]);
        let texts = networks.unwrap().texts();
        assert_eq!(texts, ["1.2.3.4", "10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]);
        assert_eq!(Networks::parse(&texts).unwrap().texts(), texts);
    }

    #[test]
    fn what_is_no_network_is_refused_with_what_was_meant() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "localhost", "10.0.0.0/8 ", "::1/129"] {
            let told = Networks::parse([text]).unwrap_err().to_string();
            assert!(told.contains("is not a network"), "{told}");
        }
        let told = Networks::parse(["10.1.2.3/8"]).unwrap_err().to_string();
        assert_eq!(
            told,
            "\"10.1.2.3/8\" names an address inside of 10.0.0.0/8: write \"10.0.0.0/8\", or the address without \"/\""
        );
    }
}

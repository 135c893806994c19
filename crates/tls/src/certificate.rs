//! The certificate of a peer, and how its identity key stands behind it.
//!
//! Identities are Ed25519 keys, and the DTLS library takes certificates of ECDSA on P-256 only. So each peer makes a
//! key of that kind whenever it starts, signs a certificate with it, and puts into that what ties the two: its identity key, and
//! a signature by it over the key of the certificate. The handshake proves that the other side holds the latter.
//! The names, the dates and the signature of the certificate itself say nothing, and nobody looks at them.
//!
//! | extension | holds |
//! |---|---|
//! | [`OID`], not critical | identity key (32), signature (64) over [`DOMAIN`] and the SubjectPublicKeyInfo in DER |

use rcgen::{CertificateParams, CustomExtension, DistinguishedName, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use wire::{KeyPair, PublicKey, Signatures};
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};
use zeroize::Zeroizing;

/// Names the extension, under the arc for numbers drawn by chance that nobody registers (ITU-T X.667).
const OID: [u64; 3] = [2, 25, 1_874_299_337];

/// Signed before the key, so that no other signature of the identity can be taken for one.
const DOMAIN: &[u8] = b"openvoip link certificate 1\0";

/// The longest certificate that is looked at: ours take 380 bytes.
const MAX_LEN: usize = 1_024;

/// The certificate of this peer, and its key.
pub(crate) struct Own {
    /// In DER.
    pub(crate) certificate: Vec<u8>,
    /// In PKCS #8.
    pub(crate) key: Zeroizing<Vec<u8>>,
}

impl Own {
    pub(crate) fn new(identity: &KeyPair) -> Result<Own, String> {
        let cannot = |e: rcgen::Error| format!("cannot make a certificate for links: {e}");
        let key = rcgen::KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(cannot)?;
        Own::by(identity, &key, &key.subject_public_key_info()).map_err(cannot)
    }

    /// A certificate of this key in which the identity vouches for that one.
    fn by(identity: &KeyPair, key: &rcgen::KeyPair, vouched: &[u8]) -> Result<Own, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.distinguished_name = DistinguishedName::new();
        let content = [&identity.public().0[..], &identity.sign(&said(vouched))].concat();
        params.custom_extensions.push(CustomExtension::from_oid_content(&OID, content));
        let certificate = params.self_signed(key)?.der().to_vec();
        Ok(Own { certificate, key: Zeroizing::new(key.serialize_der()) })
    }
}

/// What is signed: that this key speaks for the identity.
fn said(key: &[u8]) -> Vec<u8> {
    [DOMAIN, key].concat()
}

/// Which identity stands behind a certificate, if one does. Whoever shows the certificate has proven nothing before the
/// handshake has shown that it holds the key.
pub fn identity(der: &[u8]) -> Option<PublicKey> {
    if der.len() > MAX_LEN {
        return None;
    }
    let certificate = Certificate::from_der(der).ok()?;
    let certificate = certificate.tbs_certificate();
    let oid = OID.map(|arc| arc.to_string()).join(".");
    let mut ours = certificate.extensions()?.iter().filter(|e| e.extn_id.to_string() == oid);
    let (extension, None) = (ours.next()?, ours.next()) else { return None };
    let (key, signature) = extension.extn_value.as_bytes().split_first_chunk::<{ PublicKey::LEN }>()?;
    let signature: &[u8; KeyPair::SIGNATURE_LEN] = signature.try_into().ok()?;
    let vouched = certificate.subject_public_key_info().to_der().ok()?;
    let identity = PublicKey(*key);
    Signatures::Ed25519.verify(&identity, &said(&vouched), signature).then_some(identity)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::Seed;

    fn keys(n: u64) -> KeyPair {
        KeyPair::from_seed(Seed::from_number(n))
    }

    #[test]
    fn a_certificate_says_whose_it_is() {
        let own = Own::new(&keys(1)).unwrap();
        assert_eq!(identity(&own.certificate), Some(keys(1).public()));
        assert!(own.certificate.len() < 400, "{}", own.certificate.len());
    }

    #[test]
    fn an_identity_that_vouches_for_another_key_stands_behind_nothing() {
        // Whoever copies the extension of another into a certificate of its own.
        let [of_thief, of_victim] =
            [1, 2].map(|_| rcgen::KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
        let stolen = Own::by(&keys(1), &of_thief, &of_victim.subject_public_key_info()).unwrap();
        assert_eq!(identity(&stolen.certificate), None);
    }

    #[test]
    fn a_certificate_without_an_identity_is_nobodys() {
        let key = rcgen::KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let bare = CertificateParams::new(Vec::<String>::new()).unwrap().self_signed(&key).unwrap();
        assert_eq!(identity(bare.der()), None);
    }

    #[test]
    fn a_changed_byte_never_makes_it_anothers() {
        let own = Own::new(&keys(1)).unwrap();
        for at in 0..own.certificate.len() {
            let mut changed = own.certificate.clone();
            changed[at] ^= 1;
            let found = identity(&changed);
            assert!(found.is_none_or(|key| key == keys(1).public()), "byte {at}");
        }
        for len in 0..own.certificate.len() {
            assert_eq!(identity(&own.certificate[..len]), None, "cut to {len}");
        }
    }
}

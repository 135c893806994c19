//! What snow builds Noise from: chance from a seed and not from the machine, and the curve that identities stand on.

use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use wire::{AgreementKey, Rng, RngExt, Seed};

/// Chance from this seed, X25519 with the tables that signatures use too, and the rest from snow.
pub(crate) struct Seeded(pub(crate) Seed);

impl CryptoResolver for Seeded {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Drawn(self.0.rng())))
    }
    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::<X25519>::default() as Box<dyn Dh>)
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Drawn(Rng);

impl Random for Drawn {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        dest.fill_with(|| self.0.random());
        Ok(())
    }
}

/// A key pair, once it is set or drawn.
#[derive(Default)]
struct X25519(Option<(AgreementKey, [u8; 32])>);

impl X25519 {
    fn hold(&mut self, secret: AgreementKey) {
        let public = secret.public();
        self.0 = Some((secret, public));
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        wire::agreement::LEN
    }

    fn priv_len(&self) -> usize {
        wire::agreement::LEN
    }

    fn set(&mut self, secret: &[u8]) {
        self.hold(AgreementKey::from_scalar(secret.try_into().expect("as long as `priv_len`")));
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut seed = Seed([0; 32]);
        rng.try_fill_bytes(&mut seed.0)?;
        self.hold(AgreementKey::ephemeral(seed));
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.0.as_ref().map_or(&[0; 32], |(_, public)| public)
    }

    fn privkey(&self) -> &[u8] {
        self.0.as_ref().map_or(&[0; 32], |(secret, _)| secret.secret())
    }

    fn dh(&self, theirs: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let theirs = theirs.first_chunk().ok_or(snow::Error::Dh)?;
        let (secret, _) = self.0.as_ref().ok_or(snow::Error::Dh)?;
        let agreed = secret.agree(theirs).ok_or(snow::Error::Dh)?;
        out[..agreed.len()].copy_from_slice(&*agreed);
        Ok(())
    }
}

//! Three peers on this machine: one stores a record, another finds it, watches it change, and sees it
//! go. `cargo run -p openvoip --example store_and_find`

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use openvoip::peer::{Options, Peer};

const HOUR: Duration = Duration::from_secs(3_600);

/// A peer at free ports of this machine, with keys that live as long as it does.
async fn peer(bootstrap: Vec<SocketAddr>) -> Result<Peer, openvoip::peer::Error> {
    let any = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let mut options = Options { listen: any, sip: any, ..Options::default() };
    options.config.bootstrap = bootstrap;
    Peer::start(options).await
}

pub(crate) async fn store_and_find() -> Result<(), Box<dyn Error>> {
    let founder = peer(Vec::new()).await?;
    let author = peer(vec![founder.address()]).await?;
    let reader = peer(vec![founder.address()]).await?;
    println!("three peers: {}, {}, {}", founder.address(), author.address(), reader.address());

    let stored = author.publish("menu", "soup", HOUR).await?;
    println!("stored at {} peers", stored.holders);

    let found = reader.lookup("menu").await?.ok_or("the record was not found")?;
    println!("found: {}", String::from_utf8_lossy(&found.value));
    // Anybody may store under any key: whose record is it?
    assert_eq!(found.owner, author.status().await?.public_key);

    let mut menu = reader.subscribe("menu", Duration::from_secs(1))?;
    assert_eq!(menu.next().await.flatten().map(|r| r.value), Some(b"soup".to_vec()));
    author.publish("menu", "noodles", HOUR).await?;
    let changed = menu.next().await.flatten().ok_or("the record did not change")?;
    println!("changed to: {}", String::from_utf8_lossy(&changed.value));
    assert_eq!(changed.value, b"noodles");

    author.remove("menu").await?;
    assert_eq!(menu.next().await, Some(None));
    println!("removed");

    for peer in [reader, author, founder] {
        peer.shutdown().await?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    pollster::block_on(store_and_find())
}

//! Lines of the control protocol, as they come from the control socket.

use std::time::Duration;

use crate::peer::World;

/// Most lines of one input.
const MAX_LINES: usize = 40;

/// Every line is answered, at once or when its command ends, and the peer lives.
pub fn control(lines: &[u8]) {
    let mut world = World::new();
    for line in lines.split(|b| *b == b'\n').take(MAX_LINES) {
        world.command(line);
        world.pass(Duration::from_millis(100));
    }
    world.rest();
}

//! Whole simulated portals.

use proxy::time::Duration;
use tests::sim::portal::{Portal, Shape};
use tests::sim::script::Script;

#[test]
fn a_portal_comes_up_and_carries_an_exchange() {
    let started = std::time::Instant::now();
    let mut portal = Portal::up(1, &Shape::default());
    println!(
        "up at {:?} after {:?}",
        portal.world.now(),
        started.elapsed()
    );
    let app = portal.app(0, Script::echo(4000, 100));
    let over = portal.within(Duration::from_secs(5), |portal| {
        portal.apps_are_over() && portal.is_idle()
    });
    assert!(over && portal.is_clean(app), "{}", portal.story());
    portal.close(true);
    println!("took {:?}", started.elapsed());
}

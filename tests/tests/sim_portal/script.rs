//! What an app and its service do to each other, drawn from a seed.

use proxy::engine::simulated::Rng;
use proxy::time::Duration;

use super::endpoint::{NAME, Part, Quit, Say};

/// One app: both ends of its connection.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// The app.
    pub app: Part,
    /// Its service.
    pub service: Part,
}

/// The kinds of scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Small messages, each answered.
    Echo,
    /// Much both ways at once.
    Bulk,
    /// The service answers once the app has ended.
    Reply,
    /// The service ends first; the app goes on.
    ServiceEndsFirst,
    /// The app resets.
    AppResets,
    /// The service resets.
    ServiceResets,
    /// The app connects, says little or nothing, and hangs up.
    HangsUp,
    /// One end reads slowly.
    SlowReader,
    /// The app ends, reads slowly, and resets when nearly all has come.
    SlowQuitter,
}

/// All kinds.
pub const KINDS: [Kind; 9] = [
    Kind::Echo,
    Kind::Bulk,
    Kind::Reply,
    Kind::ServiceEndsFirst,
    Kind::AppResets,
    Kind::ServiceResets,
    Kind::HangsUp,
    Kind::SlowReader,
    Kind::SlowQuitter,
];

/// Most bytes of a bulk direction.
const BULK: u64 = 300 * 1024;

impl Script {
    /// A small exchange that ends well.
    pub fn echo(bytes: u64, piece: u64) -> Script {
        let app = Part {
            say: Say::InTurns(piece),
            ..Part::plain(bytes.max(NAME))
        };
        let service = Part {
            say: Say::AsRead,
            ..app
        };
        Script { app, service }
    }

    /// A script of that kind.
    pub fn draw(kind: Kind, rng: &mut Rng) -> Script {
        // Mostly small: bulk is what a run spends its time on.
        let small = |rng: &mut Rng| NAME + rng.below(3000);
        let some = |rng: &mut Rng| match rng.below(4) {
            0 => NAME + rng.below(BULK),
            1 => NAME + rng.below(40_000),
            _ => NAME + rng.below(3000),
        };
        match kind {
            Kind::Echo => {
                let piece = NAME + rng.below(200);
                Script::echo(piece * (1 + rng.below(5)), piece)
            }
            Kind::Bulk => Script {
                app: Part::plain(some(rng)),
                service: Part::plain(some(rng)),
            },
            Kind::Reply => Script {
                app: Part::plain(small(rng)),
                service: Part {
                    say: Say::AfterEnd,
                    ..Part::plain(some(rng))
                },
            },
            Kind::ServiceEndsFirst => Script {
                // The name has to come first, or nobody knows what to do.
                app: Part {
                    say: Say::InTurns(NAME),
                    ends_last: true,
                    ..Part::plain(NAME + rng.below(5000))
                },
                service: Part::plain(8 * 1024),
            },
            Kind::AppResets => {
                let bytes = some(rng);
                let quit = match rng.below(3) {
                    0 => Quit::Written(rng.below(bytes + 1)),
                    1 => Quit::Read(rng.below(4000)),
                    _ => Quit::After(Duration::from_micros(rng.below(50_000))),
                };
                Script {
                    app: Part {
                        quit,
                        ..Part::plain(bytes)
                    },
                    service: Part::plain(some(rng)),
                }
            }
            Kind::ServiceResets => {
                let bytes = some(rng);
                let quit = match rng.below(3) {
                    0 => Quit::Written(rng.below(bytes + 1)),
                    1 => Quit::Read(NAME + rng.below(4000)),
                    _ => Quit::After(Duration::from_micros(rng.below(50_000))),
                };
                Script {
                    app: Part::plain(some(rng)),
                    service: Part {
                        quit,
                        ..Part::plain(bytes)
                    },
                }
            }
            Kind::HangsUp => Script {
                app: Part {
                    hangs_up: true,
                    ..Part::plain([0, NAME, NAME + rng.below(300)][rng.below(3) as usize])
                },
                service: Part::plain(rng.below(100)),
            },
            Kind::SlowQuitter => {
                let bytes = 24_000 + rng.below(24_000);
                let app = Part {
                    quit: Quit::Read(bytes / 2 + rng.below(bytes / 2)),
                    pace: Some((1000, Duration::from_millis(1 + rng.below(20)))),
                    ..Part::plain(small(rng))
                };
                let service = Part::plain(bytes);
                Script { app, service }
            }
            Kind::SlowReader => {
                let pace = Some((
                    500 + rng.below(4000) as usize,
                    Duration::from_millis(1 + rng.below(30)),
                ));
                let (mut app, mut service) = (Part::plain(some(rng)), Part::plain(some(rng)));
                if rng.chance(500) {
                    app.pace = pace;
                } else {
                    service.pace = pace;
                }
                Script { app, service }
            }
        }
    }

    /// Whether both ends mean to end in order.
    pub fn ends_well(&self) -> bool {
        let well = |part: &Part| part.quit == Quit::Never && !part.hangs_up;
        well(&self.app) && well(&self.service)
    }
}

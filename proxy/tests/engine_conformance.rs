//! One suite of behaviours, run against every engine: what the worker may rely on.
//!
//! Each behaviour is a generic function over a [`Harness`](conformance::Harness); the macro below
//! makes one test of it per engine. `cargo test -p proxy --features sim --test engine_conformance`.

#![cfg(feature = "sim")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, on whatever it did not expect"
)]

mod conformance;

use conformance::{connections, ending, receiving, sending, splicing, turns};

/// Makes one module of tests per engine out of a list of behaviours.
macro_rules! suite {
    ($($module:ident :: $behaviour:ident),* $(,)?) => {
        suite!(@ epoll EpollHarness $($module::$behaviour)*);
        suite!(@ uring UringHarness $($module::$behaviour)*);
        suite!(@ simulated SimHarness $($module::$behaviour)*);
        suite!(@ simulated_rough RoughSimHarness $($module::$behaviour)*);
    };
    (@ $engine:ident $harness:ident $($module:ident :: $behaviour:ident)*) => {
        mod $engine {
            $(#[test] fn $behaviour() {
                super::$module::$behaviour::<super::conformance::$harness>();
            })*
        }
    };
}

suite! {
    connections::accept_reports_each_connection_and_goes_on,
    connections::connecting_where_nobody_listens_is_refused,
    connections::two_engines_share_one_listening_socket,
    connections::a_thousand_connections_work_at_once,
    connections::a_full_table_leaves_connections_in_the_backlog,
    connections::a_connection_moves_from_one_engine_to_another,
    connections::a_socket_with_an_operation_in_flight_is_not_given_away,
    connections::a_name_outlives_its_socket_without_harm,
    connections::a_tunnel_has_its_options_set,
    receiving::bytes_arrive_as_they_were_sent,
    receiving::an_idle_receive_holds_no_buffer,
    receiving::received_bytes_leave_the_room_that_was_asked_for,
    receiving::receives_with_different_room_work_side_by_side,
    receiving::a_receive_into_stays_within_its_bounds,
    receiving::without_buffers_a_receive_starves_and_the_bytes_stay,
    receiving::many_receives_use_up_the_pool_and_go_on_when_buffers_are_back,
    receiving::a_receive_of_every_class_works_again_and_again,
    receiving::a_cancelled_receive_ends_once,
    receiving::a_second_receive_is_given_back,
    receiving::drained_is_said_when_nothing_more_was_there,
    sending::a_send_is_resumed_until_all_is_sent,
    sending::send_now_moves_what_fits_and_never_waits,
    sending::parts_of_one_buffer_go_to_many_sockets,
    sending::a_cancelled_send_gives_its_buffer_back,
    sending::a_second_send_is_given_back,
    sending::both_directions_run_at_once,
    sending::sizes_that_do_not_fit_are_refused,
    ending::fin_is_an_end_and_the_other_direction_goes_on,
    ending::shutdown_waits_for_the_send,
    ending::an_orderly_close_delivers_everything_first,
    ending::a_reset_close_is_a_reset_at_the_peer,
    ending::a_reset_gives_the_buffer_of_a_receive_back,
    ending::sending_to_a_peer_that_is_gone_fails,
    ending::a_watch_for_hang_up_ignores_a_fin_and_sees_a_reset,
    ending::a_watch_for_hang_up_sees_both_directions_ended,
    ending::a_watch_for_bytes_sees_bytes_and_ends,
    ending::a_watch_for_room_waits_until_there_is_some,
    ending::a_cancelled_watch_ends_once,
    ending::a_cancelled_accept_ends_once,
    splicing::bytes_pass_through_a_pipe_unchanged,
    splicing::no_more_than_asked_for_goes_into_a_pipe,
    splicing::an_empty_socket_and_an_empty_pipe_would_block,
    splicing::a_full_pipe_would_block_and_keeps_what_it_has,
    splicing::a_full_socket_would_block_until_there_is_room,
    splicing::a_fin_is_nothing_moved,
    splicing::a_reset_is_an_error_of_both_splices,
    splicing::pipes_are_bounded_and_come_back_empty,
    splicing::an_engine_without_pipes_gives_none,
    splicing::a_closed_socket_is_not_spliced,
    splicing::a_socket_waits_for_bytes_and_for_room_at_once,
    turns::a_turn_ends_at_its_instant,
    turns::a_poll_never_blocks,
    turns::another_thread_wakes_a_sleeping_turn,
    turns::a_wake_before_the_turn_is_not_lost,
    turns::a_wake_is_used_up_by_one_turn,
    turns::tokens_come_back_unchanged,
}

//! API mode against an API server: what comes in, what goes out, and what must not be lost when things fail.
//!
//! Each test of a fault says what must not be lost. The faults and their tests:
//!
//! | fault | tests |
//! |---|---|
//! | leader killed in mid-write | `living::of_three_processes_…`, `leading::a_leader_killed_in_mid_write_…` |
//! | a Lease that cannot be renewed | `leading::a_leader_that_cannot_renew_…` |
//! | watches dropped during 100 changes | `reading::a_watch_that_drops_…` |
//! | 410 Gone | `reading::after_410_gone_…` |
//! | 429 with `Retry-After` | `reading::nothing_is_asked_earlier_…`, `writing::a_conflict_and_a_busy_server_…` |
//! | 409 | `writing::a_conflict_and_a_busy_server_…`, `writing::somebody_elses_change_…` |
//! | 403 | `reading::a_kind_that_may_not_be_read_…`, `writing::a_status_that_may_not_be_written_…`, `secrets::…` |
//! | 500 | `faults::inner_errors_…`, `leading::a_leader_that_cannot_renew_…` |
//! | no streaming lists (422) | `reading::without_streaming_lists_…` |
//! | late answers | `faults::answers_that_come_late_…` |
//! | answers that never come | `faults::a_write_that_is_never_answered_…` |
//! | a write is stored and its answer lost | `faults::writes_that_are_stored_…` |
//! | a watch that says nothing | `reading::a_watch_that_falls_silent_…` |
//! | two versions of an object racing | `lasting::of_two_versions_…` |
//! | malformed objects | `reading::a_malformed_object_…`, `lasting::malformed_objects_…` |
//! | `ConfigMap` of 1 MiB, or refused | `lasting::a_config_map_of_a_megabyte_…`, `reading::a_bad_address_configuration_…` |
//! | token rotation | `reading::a_rotated_token_…`, `faults::a_rotated_token_…` |
//! | server away for 60 s under load | `lasting::an_api_server_that_is_away_…`, `binary::a_minute_without_api_server_…` |
//! | away for hours, history lost | `faults::after_hours_…` |
//! | away at the start | `caching::…`, `binary::a_restart_without_api_server_…` |
//! | the announcing node killed, also without server | `announcing::…` |
//! | another cluster at its address | `caching::another_cluster_…`, `caching::the_state_of_another_cluster_…` |
//!
//! The scenarios that do not depend on where objects come from are in the suite `e2e`.

mod announcing;
mod binary;
mod caching;
mod endpoints;
mod faults;
mod harness;
mod lasting;
mod leading;
mod living;
mod publishing;
mod reading;
mod scale;
mod scene;
mod secrets;
mod writing;

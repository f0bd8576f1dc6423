//! Rotation that survives crashes and replicas: real processes, killed and paused, on real stores.
//!
//! This program is the test and each of the processes: started as `replica`, it is one of a fleet (`replica`); otherwise it runs the
//! tests. All of them are flagged as ignored, because they need servers (Redis, PostgreSQL, PgBouncer) or take a minute; asked for, they
//! fail if one is missing. Those named `long` take minutes each: `scripts/deep` runs them, and `scripts/test` doesn't.

mod any_store;
#[path = "../support/authority.rs"]
mod authority;
mod crash;
mod example;
mod fleets;
mod no_outage_ends_it;
mod on_redis;
#[path = "../support/outage.rs"]
mod outage;
mod postgres;
mod postgres_server;
mod process;
mod proxy;
mod redis_server;
mod replica;
mod steps;
#[path = "../../benches/harness/stops.rs"]
mod stops;
mod store_check;

use std::{future::Future, process::ExitCode, sync::RwLock};

use libtest_mimic::{Arguments, Failed, Trial};

use on_redis::{announcements, cluster, durability, failover, family, many_failovers, owners, sentinel, settings, tls};

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("replica") {
        return replica::main();
    }
    let mut arguments = Arguments::from_args();
    // They wait for most of the time, and side by side they take no longer than the longest.
    arguments.test_threads = arguments.test_threads.or(Some(SIDE_BY_SIDE));
    let trials = vec![
        beside("a_fleet_on_redis_outlives_kills_pauses_and_a_restart_of_redis", fleets::disturbed_on_redis),
        beside("two_processes_on_a_file_outlive_kills_and_pauses", fleets::disturbed_on_a_file),
        beside("a_fleet_on_postgres_outlives_kills_pauses_and_a_restart_of_the_server", fleets::disturbed_on_postgres),
        beside("client_credentials_go_on_without_redis", fleets::without_redis),
        beside("a_refresh_token_is_not_spent_without_redis", fleets::not_spent_without_redis),
        beside("an_answer_that_comes_late_revives_those_who_reported_its_loss", fleets::late_answer),
        beside("an_idle_replica_leaves_the_store_alone", fleets::idle),
        beside("store_on_redis::keeps_every_promise_of_a_store", store_check::on_redis),
        beside("store_on_redis::keeps_every_promise_with_few_rights", store_check::on_redis_with_few_rights),
        beside("store_on_redis::keeps_every_promise_sealed", store_check::sealed_on_redis),
        beside("store_on_redis::keeps_every_promise_with_a_replica", store_check::on_redis_and_its_replica),
        beside("store_on_postgres::keeps_every_promise_of_a_store", store_check::on_postgres),
        beside("store_on_postgres::keeps_every_promise_sealed", store_check::sealed_on_postgres),
        beside("store_on_postgres::a_family_keeps_every_promise", store_check::on_a_family_on_postgres),
        beside("store_on_postgres::others_hear_at_once_what_was_stored", postgres::news),
        beside("store_on_postgres::a_row_that_is_not_whole_is_leased_to_nobody", postgres::half_a_row),
        beside("store_on_postgres::older_versions_are_heard_of", postgres::older_versions),
        beside("store_on_postgres::outlives_the_end_of_all_connections", postgres::backends_ended),
        beside("store_on_postgres::a_server_killed_under_contention_loses_nothing", postgres::killed_under_contention),
        beside("store_on_postgres::works_behind_pgbouncer_by_polling", postgres::behind_pgbouncer),
        beside("store_on_postgres::leaves_no_listen_behind_pgbouncer", postgres::nothing_left_behind_pgbouncer),
        beside("store_on_postgres::a_missing_table_says_what_to_run", postgres::table_missing),
        beside("store_on_postgres::who_is_refused_must_mend_something", postgres::refused),
        beside("store_on_postgres::a_server_that_only_reads_is_waited_for", postgres::read_only),
        beside("store_on_postgres::a_locked_row_and_a_stopped_server_cost_little", postgres::locked_and_stopped),
        beside("store_on_postgres::a_standby_takes_over_with_what_was_confirmed", postgres::failover),
        beside("store_on_postgres::what_no_standby_confirms_is_not_stored", postgres::standby_missing),
        beside(
            "store_on_postgres::a_missing_standby_costs_no_session_for_each_user",
            postgres::standby_missing_for_many,
        ),
        beside(
            "store_on_redis::after_a_failover_behind_a_proxy_the_new_primary_is_written_to",
            failover::behind_a_proxy,
        ),
        beside("store_on_redis::a_failover_is_found_out_by_any_call", failover::whatever_is_called_first),
        beside("store_on_redis::a_connection_closed_while_idle_makes_no_call_fail", failover::closed_while_idle),
        beside("store_on_redis::a_connection_that_died_silently_costs_one_call", failover::silent),
        beside("store_on_redis::a_password_that_the_server_learns_later_works", failover::password_mended),
        beside("store_on_redis::older_versions_are_announced_and_heard", announcements::of_older_versions),
        beside(
            "store_on_redis::another_entry_of_the_same_version_is_heard_of",
            announcements::of_another_entry_with_the_same_version,
        ),
        beside("store_on_redis::a_subscription_made_anew_is_news_once", announcements::made_anew),
        beside("store_on_redis::what_a_store_has_stored_itself_is_no_news", announcements::of_its_own),
        beside("store_on_redis::who_may_not_listen_makes_few_connections", announcements::where_nobody_may_listen),
        beside("store_on_redis::a_store_has_two_connections", announcements::over_two_connections),
        beside("store_on_redis::a_swap_that_too_few_replicas_have_is_not_stored", durability::too_few_replicas),
        beside("store_on_redis::a_swap_that_all_replicas_have_outlives_a_failover", durability::enough_replicas),
        beside("store_on_redis::a_server_that_cannot_wait_for_disks_says_so", durability::disks),
        beside("store_on_redis::an_answer_may_take_as_long_as_it_is_given", durability::answer_limit),
        beside("store_on_redis::a_family_key_that_is_dropped_leaves_its_channel", family::leaves_its_channel),
        beside("store_on_redis::a_family_hears_again_after_a_restart", family::hears_again_after_a_restart),
        beside(
            "store_on_redis::a_family_hears_again_after_its_connections_died_silently",
            family::over_a_connection_that_died_silently,
        ),
        beside("store_on_redis::a_family_without_its_replica_holds_up_nobody", family::without_its_replica),
        beside("store_on_redis::a_family_has_the_entries_of_a_store_for_each_user", family::same_entries),
        beside("store_on_redis::a_damaged_entry_costs_no_other_user_a_connection", family::of_a_wrong_type),
        beside("store_on_redis::a_setting_that_endangers_tokens_is_warned_of_once", settings::are_warned_of),
        beside("store_on_redis::settings_that_may_not_be_read_are_no_error", settings::that_may_not_be_read),
        beside("store_on_a_cluster::keeps_every_promise_of_a_store", cluster::keeps_every_promise),
        beside("store_on_a_cluster::slots_that_are_moved_lose_nothing", cluster::slots_are_moved),
        beside("store_on_a_cluster::a_slot_that_stays_on_its_way_stops_no_renewal", cluster::a_slot_stays_on_its_way),
        beside("store_on_a_cluster::a_killed_node_is_replaced_by_its_replica", cluster::a_node_is_killed),
        beside("store_behind_sentinels::keeps_every_promise_of_a_store", sentinel::keeps_every_promise),
        beside(
            "store_behind_sentinels::failovers_under_writes_lose_nothing_that_was_confirmed",
            sentinel::handed_over_under_writes,
        ),
        beside(
            "store_behind_sentinels::a_sentinel_that_was_cut_off_leads_nobody_to_a_replica",
            sentinel::named_by_one_that_was_cut_off,
        ),
        beside("store_behind_sentinels::a_killed_primary_is_replaced_by_its_replica", sentinel::the_primary_is_killed),
        beside("owners_on_redis::agree_after_a_failover_that_lacks_the_last_writes", owners::last_writes_lost),
        beside("owners_on_redis::agree_after_writing_to_a_replica", owners::read_only),
        beside("owners_on_redis::agree_after_a_handover", owners::handed_over),
        beside("owners_on_redis::agree_after_everything_was_flushed", owners::emptied),
        beside("owners_on_redis::agree_after_redis_came_back_empty", owners::comes_back_empty),
        beside("owners_on_redis::agree_after_redis_came_back_from_a_backup", owners::comes_back_older),
        beside("owners_on_redis::agree_after_keys_were_deleted", owners::deleted),
        beside("owners_on_redis::agree_after_redis_stood_still", owners::stands_still),
        beside("owners_on_redis::agree_after_everybody_was_refused", owners::refuses),
        beside("no_outage_ends_an_authorization_on_redis", no_outage_ends_it::on_redis),
        alone("a_fleet_fetches_once_for_all", fleets::steady_everywhere),
        alone("a_kill_at_any_step_loses_nothing_silently", crash::matrix),
        alone("fifty_replicas_that_start_at_once_make_one_token_request", fleets::mass_start_on_redis),
        alone("fifty_replicas_that_start_at_once_on_postgres_make_one_token_request", fleets::mass_start_on_postgres),
        alone("store_on_redis::five_thousand_users_share_two_connections", family::five_thousand),
        alone("store_on_postgres::five_thousand_keys_share_one_more_connection", postgres::five_thousand_keys),
        alone(
            "long::two_hundred_failovers_with_a_replica_that_must_have_each_write_spend_nothing_twice",
            many_failovers::with_a_replica_that_must_have_it,
        ),
        alone(
            "long::failovers_without_that_end_an_authorization_only_where_a_write_was_lost",
            many_failovers::with_the_primary_alone,
        ),
        alone("long::a_kill_at_any_step_loses_nothing_silently_on_every_store", crash::on_every_store),
        alone("long::eight_processes_on_files_and_on_sealed_stores", fleets::on_files_and_sealed),
        alone("redis_over_tls_with_a_password", tls::with_a_password),
        alone("a_second_run_of_call_goes_on_with_the_token_on_redis", example::called_twice),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A test that leaves room for others.
fn beside<F: Future<Output = ()> + 'static>(name: &str, test: fn() -> F) -> Trial {
    trial(name, move || {
        let _turn = TURNS.read();
        run(test())
    })
}

/// A test that keeps the machine busy.
fn alone<F: Future<Output = ()> + 'static>(name: &str, test: fn() -> F) -> Trial {
    trial(name, move || {
        let _turn = TURNS.write();
        run(test())
    })
}

fn trial(name: &str, test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    Trial::test(name, test).with_ignored_flag(true)
}

fn run(test: impl Future<Output = ()>) -> Result<(), Failed> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(test);
    Ok(())
}

/// Poisoned by a test that failed: the others have their turn all the same.
static TURNS: RwLock<()> = RwLock::new(());

const SIDE_BY_SIDE: usize = 16;

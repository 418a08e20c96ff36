"""Bugs that tests and attacks have found, each with the tests that guard against it now; kept by hand.

Only what was really found, in code that was thought to be right. A test is named as pytest names it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bug:
    """What was wrong, who or what found it, and the tests that failed then and pass now."""

    what: str
    found_by: str
    guards: tuple[str, ...]


MONEY = "tests/plugin/test_plugin_money.py::test_a_scenario"

BUGS = (
    Bug(
        "After the node's database was put back to an older copy, a melt that was paid since was given back: its rows"
        " were gone, or failed",
        "rolling the sandbox's database back",
        (MONEY, "tests/ledger/test_node_runs.py::test_a_node_that_remembers_less_than_it_said_was_rolled_back"),
    ),
    Bug(
        "After that, invoices that were paid were not credited until the node had counted as many as before",
        "rolling the sandbox's database back",
        (MONEY,),
    ),
    Bug(
        "Of many identical requests for the ecash of a quote, one was refused now and then as issued already: its twin"
        " was committed between two looks at the ledger",
        "races of 200 clients",
        ("tests/ledger/test_races.py::test_a_twin_that_is_issued_between_two_looks_is_answered_alike",),
    ),
    Bug(
        "An invoice that was paid and deleted (`autoclean`) while the mint was off was never credited",
        "known from the start; a way was found when deleting the rows was tried",
        (
            MONEY,
            "tests/node/test_node_money.py::test_autoclean_deletes_an_invoice_that_was_paid_while_the_mint_was_off",
        ),
    ),
    Bug(
        "An xpay whose reply was lost counted as ended when the clock jumped forward, though it could still pay: its"
        " ecash was given back",
        "thinking about wrong clocks",
        (MONEY,),
    ),
    Bug(
        "A melt whose reply was lost stayed pending for as long as the clock had been set back",
        "wrong clocks",
        (MONEY,),
    ),
    Bug(
        "A client that was answered before it had sent its body, and went on sending, left a connection behind that"
        " never ended and kept its place",
        "the fuzzer, by the bytes of a connection",
        (
            "tests/plugin/test_http_connection.py"
            "::test_who_is_answered_before_he_has_said_all_and_goes_on_leaves_nothing_behind",
            "tests/plugin/test_fuzz_targets.py::test_a_target_reads_its_seeds",
        ),
    ),
    Bug(
        "An xpay of the mint's own invoice left no trace once its payment row was deleted, so a melt that had been paid"
        " could be given back",
        "tests with `delpay`",
        (
            "tests/plugin/test_plugin_lost.py::test_an_own_invoice_that_was_paid_and_whose_rows_are_gone_is_never_released",
        ),
    ),
    Bug(
        "The failed row of an earlier attempt was taken for one of the present attempt, whose own rows were gone",
        "tests with `delpay`",
        (
            "tests/plugin/test_plugin_lost.py::"
            "test_a_failed_row_of_an_earlier_attempt_does_not_speak_for_a_later_one_whose_rows_are_gone",
        ),
    ),
    Bug(
        "Some forms of `delpay` don't count in the node's own number of deletions, by which missing rows were noticed",
        "tests on a real node",
        ("tests/plugin/test_plugin_lost.py::test_the_nodes_accounts_prove_a_payment_whose_rows_are_gone",),
    ),
    Bug(
        "A melt of an own invoice that somebody else had paid meanwhile stayed undecided",
        "a stranger's look at the code",
        (
            "tests/plugin/test_plugin_lost.py::"
            "test_an_own_invoice_paid_by_somebody_else_is_not_taken_for_one_that_we_paid",
        ),
    ),
    Bug(
        "A payment that the node could not be asked about was not looked at again",
        "a node that answers with errors",
        ("tests/plugin/test_plugin_evidence.py::test_a_question_that_the_node_does_not_answer_is_asked_again",),
    ),
    Bug(
        "An invoice that was paid before its quote was stored passed by without being credited",
        "the sandbox, in which invoices pay themselves at once",
        ("tests/plugin/test_plugin_mint.py::test_a_payment_that_is_quicker_than_its_quote_is_credited",),
    ),
    Bug(
        "Who could not sign for a locked quote (NUT-20) learned the answer to an identical request",
        "tests of identical requests",
        ("tests/ledger/test_replay.py::test_the_answer_of_a_locked_quote_is_not_given_to_who_cannot_sign",),
    ),
    Bug(
        "WebSocket readers that read nothing kept their memory and their place",
        "a flood of subscriptions",
        (
            "tests/protocol/test_protocol_crowd.py::test_a_reader_that_takes_nothing_is_dropped_and_others_go_on",
            "tests/protocol/test_protocol_crowd.py::"
            "test_a_reader_with_too_many_messages_waiting_is_dropped_and_others_go_on",
        ),
    ),
    Bug(
        "A WebSocket message without an end was collected without a limit",
        "a flood of 300 MB",
        ("tests/protocol/test_protocol_crowd.py::test_a_message_without_end_is_not_collected",),
    ),
    Bug(
        "Connections whose client had gone stayed open until a time-out",
        "counting open files",
        ("tests/protocol/test_protocol_crowd.py::test_a_connection_that_its_client_has_closed_is_closed",),
    ),
    Bug(
        "An operation that came while the ledger closed was never answered",
        "tests of the writer",
        ("tests/ledger/test_store.py::test_an_operation_that_comes_while_the_ledger_closes_is_answered",),
    ),
    Bug(
        "An offer with an empty list of paths crashes lightningd when an invoice is asked for it",
        "strangers with a fuzzed offer",
        ("tests/plugin/test_offers_view.py::test_an_offer_with_an_empty_list_of_paths_is_never_asked_for",),
    ),
    Bug(
        "An onion message that got lost failed a bolt12 quote",
        "strangers on a real node",
        ("tests/plugin/test_plugin_bolt12_melt.py::test_an_issuer_is_asked_once_more_when_no_answer_came",),
    ),
    Bug(
        "`cashu-audit` left out what was paid for and not issued yet",
        "strangers who compared it with the node",
        ("tests/plugin/test_plugin_audit.py::test_what_was_paid_for_and_not_issued_yet_is_owed_as_well",),
    ),
    Bug(
        "`cashu-audit` counted the coins of an on-chain payment twice while it was on its way",
        "strangers who compared it with the node",
        ("tests/plugin/test_plugin_payouts.py::test_the_audit_counts_each_coin_once_while_a_payment_is_on_its_way",),
    ),
    Bug(
        "A WebSocket whose client sent a frame before its connection was accepted kept its place for ever: a"
        " thousand packets took all of them",
        "fuzzing of the HTTP server",
        ("tests/protocol/test_protocol_crowd.py::test_who_does_not_wait_for_the_handshake_takes_no_place_for_ever",),
    ),
    Bug(
        "A WebSocket that was refused stayed open for as long as its client liked",
        "reading on where the fuzzer had found something",
        ("tests/protocol/test_protocol_crowd.py::test_a_websocket_that_is_refused_is_closed",),
    ),
    Bug(
        "A request whose Host is no name was answered with a 500 and a traceback",
        "fuzzing of the HTTP server",
        ("tests/plugin/test_plugin_hostile_bytes.py::test_bytes_that_are_no_request_do_no_harm",),
    ),
    Bug(
        "So was one for the mint's page whose Host was no IPv6 address, but in brackets",
        "fuzzing of the HTTP server",
        ("tests/plugin/test_plugin_hostile_bytes.py::test_bytes_that_are_no_request_do_no_harm",),
    ),
    Bug(
        "Heads of requests whose target is no path, and malformed offers of WebSocket extensions, ended in tracebacks",
        "bytes of a connection, by hand",
        ("tests/plugin/test_plugin_hostile_bytes.py::test_bytes_that_are_no_request_do_no_harm",),
    ),
    Bug(
        "64 KiB of a compressed WebSocket message kept everybody waiting while they unpacked to 64 MiB",
        "reading the server's code for limits",
        ("tests/protocol/test_protocol_websocket.py::test_messages_are_not_compressed_so_that_there_are_no_bombs",),
    ),
    Bug(
        "The API's description was made anew, for 67 ms, whenever somebody asked for it",
        "ten thousand connections",
        ("tests/plugin/test_http_app.py::test_the_description_is_made_once",),
    ),
    Bug(
        "Nothing limited the number of connections, nor the memory of all request bodies together",
        "reading the server's code for limits",
        (
            "tests/plugin/test_plugin_limits.py::test_connections_have_a_limit_for_each_client_and_in_all",
            "tests/plugin/test_plugin_limits.py::test_bodies_on_their_way_have_a_limit_together",
        ),
    ),
    Bug(
        "`/v1/info` announced a minimum above the maximum when an option for the chain was above a limit",
        "reading the options",
        ("tests/plugin/test_plugin_limits.py::test_options_that_leave_no_amount_on_the_chain_are_refused",),
    ),
    Bug(
        "A PSBT that is not ASCII raised another error than declared",
        "fuzzing of what the node gives",
        ("tests/plugin/test_psbt.py::test_what_is_no_psbt_is_refused",),
    ),
    Bug(
        "Empty WebSocket frames, or pings, by the ten thousand kept everybody else waiting, and no budget counted them",
        "a stranger's flood",
        ("tests/protocol/test_protocol_crowd.py::test_empty_frames_without_end_are_not_taken",),
    ),
    Bug(
        "A number of 5000 digits among the parameters of any command ended the plugin",
        "a stranger with lightning-cli",
        ("tests/plugin/test_plugin_protocol.py::test_parameters_that_can_not_be_read_are_refused_and_nothing_ends",),
    ),
    Bug(
        "A backup beside a `-wal` left by another file was called whole, and was not what SQLite read of it",
        "a stranger with an old file",
        ("tests/ledger/test_backup.py::test_a_name_beside_which_a_part_of_another_file_lies_is_refused",),
    ),
    Bug(
        "Who forged a `Forwarded` header behind a trusted proxy came into the larger budget of this machine",
        "a stranger behind a proxy",
        ("tests/plugin/test_clients.py::test_the_header_that_the_proxy_lets_pass_does_not_help_a_client",),
    ),
    Bug(
        "After a rotation or a pause an older copy of the ledger was accepted until a wallet came",
        "a stranger with an older backup",
        ("tests/plugin/test_plugin_tripwire.py::test_what_only_the_operator_does_makes_older_copies_stale_as_well",),
    ),
    Bug(
        "A good rune with a letter too many, sent to the operator's page, stood in the node's log",
        "a stranger with a rune",
        ("tests/plugin/test_operator_parts.py::test_what_has_not_never_reaches_the_node_s_log",),
    ),
    Bug(
        "A name of an interface behind an IPv6 address, told by a proxy, made one client into many",
        "fuzzing of what proxies say",
        ("tests/plugin/test_clients.py::test_an_interface_s_name_makes_no_other_client",),
    ),
)

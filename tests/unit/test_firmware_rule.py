"""An update's life, as charging stations tell it: in order, out of order, twice, or not at all."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from csms.models import FirmwareUpdate
from csms.rules import firmware as rule
from csms.rules.firmware import Answered, Asked, Booted, Cancelled, Fetched, Said, State, TimePassed, Unanswered, Update, Verdict, step

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ASKED = Asked(NOW + timedelta(hours=24))


def told(*events, update=None, now=NOW):
    """The update and the last verdict, after these events in a row."""
    update = update or Update("requested", wanted="2.0", before="1.0", retrieve_at=NOW)
    verdict = None
    for event in events:
        update, verdict = step(update, event, now)
    return update, verdict


def later(**how) -> datetime:
    return NOW + timedelta(**how)


def test_the_words_are_those_of_the_model():
    assert {one.value for one in State} == set(FirmwareUpdate.State.values)
    assert {one for one in rule.WAY if one != State.INSTALLED} == set(FirmwareUpdate.OPEN)


def test_F01_one_step_after_the_other_and_the_boot_ends_it():
    update, seen = Update("requested", wanted="2.0", before="1.0", retrieve_at=NOW), []
    for event in (ASKED, Answered(), *map(Said, ("Downloading", "Downloaded", "Installing", "Installed")), Booted("2.0")):
        update, verdict = step(update, event, NOW)
        seen.append((update.state, verdict.value))
    assert seen == [
        ("requested", "asked"),
        ("accepted", "progress"),
        ("downloading", "progress"),
        ("downloaded", "progress"),
        ("installing", "progress"),
        ("rebooting", "progress"),
        ("installed", "installed"),
    ]
    assert (update.to_version, update.finished_at, update.deadline_at) == ("2.0", NOW, None)


def test_the_boot_may_come_before_the_word():
    update, verdict = told(ASKED, Answered(), Said("Downloaded"), Booted("2.0"), Said("Installed", "2.0"))
    assert (update.state, update.said, verdict) == ("installed", "Installed", Verdict.DUPLICATE)
    assert step(update, Said("Installed", "2.0"), NOW) == (update, Verdict.ALREADY_OVER)


def test_installed_is_believed_when_the_version_it_last_booted_with_says_so():
    update, verdict = told(ASKED, Answered(), Said("Installed", "2.0"))
    assert (update.state, verdict, update.to_version) == ("installed", Verdict.INSTALLED, "2.0")


def test_F02_a_failed_download_is_asked_again_with_more_and_more_patience_and_then_given_up():
    update, now = told(ASKED, Answered())[0], NOW
    for wait_s in (300, 1800, 7200):
        update, verdict = step(update, Said("DownloadFailed"), now)
        assert (update.state, verdict, update.next_try_at) == ("download_failed", Verdict.RETRY, now + timedelta(seconds=wait_s))
        assert step(update, Said("DownloadFailed"), now) == (update, Verdict.DUPLICATE)
        assert step(update, TimePassed(), now)[1] is Verdict.NOT_YET
        now = update.next_try_at
        assert step(update, TimePassed(), now)[1] is Verdict.ASK_AGAIN
        update, _ = step(update, Asked(now + timedelta(hours=24)), now)
        update, _ = step(update, Answered(), now)
    update, verdict = step(update, Said("DownloadFailed"), now)
    assert (verdict, update.state, update.finished_at, update.attempts) == (Verdict.FAILED, "download_failed", now, 4)


def test_a_charger_that_tries_again_by_itself_is_not_asked_again():
    update, verdict = told(ASKED, Answered(), Said("DownloadFailed"), Said("Downloading"))
    assert (update.state, verdict, update.next_try_at) == ("downloading", Verdict.PROGRESS, None)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("InstallationFailed", "installation_failed"),
        ("InstallVerificationFailed", "installation_failed"),
        ("InvalidSignature", "bad_signature"),
    ],
)
def test_F03_X09_what_failed_after_the_download_is_not_tried_again(status, state):
    update, verdict = told(ASKED, Answered(), Said("Downloaded"), Said(status))
    assert (update.state, verdict, update.finished_at, update.error) == (state, Verdict.FAILED, NOW, status)


def test_F04_no_word_at_all_and_the_new_version():
    assert told(ASKED, Answered(), Booted(" 2.0 "))[0].state == "installed"


def test_F04_no_word_at_all_and_the_old_version_after_it_fetched_the_file():
    update, verdict = told(ASKED, Answered(), Fetched(False), Fetched(True), Booted("1.0"))
    assert (update.state, verdict, update.to_version) == ("rolled_back", Verdict.ROLLED_BACK, "1.0")


def test_a_restart_before_anything_was_fetched_is_no_end():
    update, verdict = told(ASKED, Answered(), Said("Downloading"), Booted("1.0"))
    assert (update.state, verdict) == ("downloading", Verdict.NOT_YET)


def test_Q158_installed_and_then_the_old_version():
    assert told(ASKED, Answered(), *map(Said, ("Downloaded", "Installing", "Installed")), Booted("1.0"))[0].state == "rolled_back"


def test_what_was_thought_lost_and_boots_with_the_new_version_has_succeeded():
    lost, _ = told(ASKED, Answered(), Said("Installing"), Booted("1.0"))
    assert step(lost, Booted("2.0"), later(hours=3))[1] is Verdict.INSTALLED
    assert step(lost, Booted("2.0"), later(hours=25)) == (lost, Verdict.ALREADY_OVER)
    refused, _ = told(ASKED, Answered("Rejected"))
    assert step(refused, Booted("2.0"), NOW) == (refused, Verdict.ALREADY_OVER)


def test_a_boot_that_names_no_version_says_nothing():
    assert told(ASKED, Answered(), Said("Installing"), Booted(""))[1] is Verdict.NOT_YET


def test_the_version_it_had_already_is_proof_only_after_an_installation():
    same = Update("requested", wanted="2.0", before="2.0", retrieve_at=NOW)
    assert told(ASKED, Answered(), Booted("2.0"), update=same)[1] is Verdict.NOT_YET
    assert told(ASKED, Answered(), Said("Installing"), Booted("2.0"), update=same)[1] is Verdict.INSTALLED


@pytest.mark.parametrize("storm", [["Idle"] * 50, ["Downloading"] * 50, ["Installing", "Downloading", "Downloaded", "Idle", "Installing"]])
def test_F05_repeats_idle_and_disorder_change_nothing(storm):
    update, _ = told(ASKED, Answered(), Said("Downloading"), Said("Installing"))
    after, verdict = told(*map(Said, storm), update=update)
    assert after == update
    assert verdict in (Verdict.IDLE, Verdict.OUT_OF_ORDER, Verdict.DUPLICATE)


def test_F05_steps_that_are_left_out_are_not_missed():
    assert told(ASKED, Said("Installing"))[0].state == "installing"
    assert told(ASKED, Said("Downloaded"), Answered())[1] is Verdict.DUPLICATE


def test_a_file_that_came_whole_may_be_refused_all_the_same():
    update, verdict = told(ASKED, Answered(), Said("Downloading"), Fetched(True), Said("DownloadFailed"))
    assert (update.state, verdict) == ("download_failed", Verdict.RETRY)
    assert told(ASKED, Answered(), Said("Downloaded"), Said("DownloadFailed"))[1] is Verdict.OUT_OF_ORDER


def test_the_steps_of_the_security_extension():
    update = told(ASKED, Answered("Accepted"))[0]
    for status, state in [
        ("DownloadScheduled", "scheduled"),
        ("Downloading", "downloading"),
        ("DownloadPaused", "downloading"),
        ("Downloaded", "downloaded"),
        ("SignatureVerified", "downloaded"),
        ("InstallScheduled", "downloaded"),
        ("Installing", "installing"),
        ("InstallRebooting", "rebooting"),
        ("Installed", "rebooting"),
    ]:
        update, verdict = step(update, Said(status), NOW)
        assert (update.state, update.said, verdict) == (state, status, Verdict.PROGRESS)


def test_a_restart_while_the_installation_waits_for_its_time_is_no_rollback():
    waiting = Update("requested", wanted="2.0", before="1.0", retrieve_at=NOW, install_at=later(hours=8))
    update, verdict = told(ASKED, Answered("Accepted"), Said("Downloaded"), Booted("1.0"), update=waiting)
    assert (update.state, verdict) == ("downloaded", Verdict.NOT_YET)
    assert update.deadline_at == later(hours=14)
    assert step(update, Booted("1.0"), later(hours=9))[1] is Verdict.ROLLED_BACK


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (Answered("Rejected"), "refused"),
        (Answered(error="NotSupported: "), "refused"),
        (Answered("InvalidCertificate"), "bad_signature"),
        (Answered("RevokedCertificate"), "bad_signature"),
    ],
)
def test_X10_an_answer_that_refuses_ends_it(answer, state):
    update, verdict = told(ASKED, answer)
    assert (update.state, verdict, update.finished_at) == (state, Verdict.FAILED, NOW)
    assert told(ASKED, Answered("AcceptedCanceled"))[0].state == "accepted"


def test_no_answer_is_waited_for_and_then_asked_again():
    update, _ = told(ASKED, Unanswered(sent=True))
    assert (update.state, update.deadline_at) == ("requested", later(minutes=30))
    update, verdict = step(update, TimePassed(), later(minutes=30))
    assert (update.state, verdict, update.next_try_at) == ("expired", Verdict.RETRY, later(minutes=35))
    # It was obeyed after all.
    assert step(update, Said("Downloading"), later(minutes=31))[0].state == "downloading"
    assert told(ASKED, Unanswered(sent=False))[1] is Verdict.RETRY


@pytest.mark.parametrize(
    ("events", "phase_s"),
    [
        ([Answered()], 2 * 3600),
        ([Said("DownloadScheduled")], 24 * 3600),
        ([Said("Downloading")], 2 * 3600),
        ([Said("Downloaded")], 6 * 3600),
        ([Said("Installing")], 3600),
        ([Said("InstallRebooting")], 1500),
    ],
)
def test_each_phase_has_its_time(events, phase_s):
    update, _ = told(ASKED, *events)
    assert update.deadline_at == later(seconds=phase_s)
    assert step(update, TimePassed(), later(seconds=phase_s - 1))[1] is Verdict.NOT_YET
    assert step(update, TimePassed(), later(seconds=phase_s))[1] in (Verdict.RETRY, Verdict.FAILED)


def test_silence_while_installing_is_not_answered_by_flashing_it_again():
    update, verdict = step(told(ASKED, Said("Installing"))[0], TimePassed(), later(hours=1))
    assert (update.state, verdict, update.next_try_at) == ("expired", Verdict.FAILED, None)


def test_installed_and_no_boot_is_waited_for_and_not_asked_for():
    waiting, _ = told(ASKED, Said("Installed"))
    assert (waiting.state, waiting.deadline_at) == ("rebooting", later(minutes=25))
    update, verdict = step(waiting, TimePassed(), later(minutes=25))
    assert (update.state, verdict, update.error) == ("expired", Verdict.FAILED, "It said Installed; no boot has shown it.")
    assert step(waiting, Booted("1.0"), later(minutes=16))[0].state == "rolled_back"


def test_a_modem_that_comes_for_piece_after_piece_is_given_time():
    update, _ = told(ASKED, Answered(), Fetched(False))
    update, verdict = step(update, Fetched(False), later(hours=1))
    assert (update.deadline_at, verdict) == (later(hours=3), Verdict.DUPLICATE)


def test_cancelled_is_the_end_whatever_it_says_then():
    update, verdict = told(ASKED, Answered(), Cancelled("om"), Said("Downloading"), Fetched(True), Booted("2.0"))
    assert (update.state, verdict, update.error) == ("cancelled", Verdict.ALREADY_OVER, "Cancelled by om.")


def test_what_nobody_knows_is_left_alone():
    update, _ = told(ASKED, Answered())
    assert step(update, Said("Unknown"), NOW) == (update, Verdict.UNKNOWN)
    assert replace(update) == update

"""Control planes of one machine never share loopback addresses, and each gets back those that it had."""

from pathlib import Path

from kaito.local.up.networks import claim_networks


def test_two_at_once_get_different_slices(tmp_path: Path) -> None:
    one = claim_networks(tmp_path / "one")
    other = claim_networks(tmp_path / "other")
    assert one.pods != other.pods
    assert one.services != other.services
    one.release()
    other.release()


def test_a_folder_gets_back_what_it_had(tmp_path: Path) -> None:
    first = claim_networks(tmp_path)
    claimed = claim_networks(tmp_path)
    claimed.remember(tmp_path)
    first.release()
    claimed.release()
    again = claim_networks(tmp_path)
    assert again.index == claimed.index
    again.release()


def test_an_unreadable_memory_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "networks.json").write_text("{")
    claim_networks(tmp_path).release()

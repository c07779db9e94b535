"""`cortensor demo` tells a story whose sums are right."""

import json

from processes import succeed


def test_the_demo_adds_up(tmp_path):
    report = json.loads(succeed("demo", "--json", "--data", tmp_path / "data", seconds=280))
    assert report["ok"] is True
    assert int(report["deposit_wei"]) == int(report["paid_wei"]) + int(report["refunded_wei"])
    assert 0 < int(report["killed_miner_owed_wei"]) < int(report["paid_wei"])
    assert len(report["tasks"]) == len(set(report["tasks"])) == 3
    # One receipt for each answer; the miner that was killed hands one over as well if it came back in time.
    assert report["receipts"] >= 3
    change = {row["who"]: int(row["after"]) - int(row["before"]) for row in report["balances"]}
    assert sum(change.values()) == 0, "nothing appears and nothing is lost"
    assert change["client"] == int(report["refunded_wei"])
    assert change["in escrow"] == -int(report["deposit_wei"])
    earned = {who: amount for who, amount in change.items() if who not in ("client", "in escrow")}
    assert sum(earned.values()) == int(report["paid_wei"])
    assert all(amount > 0 for amount in earned.values()), earned
    assert report["seconds_to_first_token"] > 0

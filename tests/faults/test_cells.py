"""A few cells of the fault matrix; `make faults` runs them all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import machine, measuring, playing
from tests.faults.cells import FAULTS, STAGES, Cell

CELLS = [*measuring.cells(), *playing.cells()]


def cell(stage: str, fault: str, way: str) -> Cell:
    (found,) = (each for each in CELLS if (each.stage, each.fault, each.way) == (stage, fault, way))
    return found


def test_the_matrix_has_at_least_sixty_cells_of_its_stages_and_faults() -> None:
    assert len(CELLS) >= 60
    assert len({(each.stage, each.fault, each.way) for each in CELLS}) == len(CELLS)
    assert {each.stage for each in CELLS} == set(STAGES)
    assert {each.fault for each in CELLS} == set(FAULTS)


def test_a_run_that_is_killed_is_resumed(tmp_path: Path) -> None:
    cell("measure with-cache", "kill -9 of kvkit", "kvkit").run(tmp_path)


@pytest.mark.playbook
def test_a_host_whose_control_node_is_silent_puts_itself_back(tmp_path: Path) -> None:
    try:
        cell("serve with-cache", "control node silent", "playbook").run(tmp_path)
    finally:
        machine.end_machines()

"""Runs the checks that `polyfleet.clearance` wants, beside the loop: talks to engines, keeps records and reports, tells what was found."""

from polyfleet.certify.board import Board
from polyfleet.certify.runner import Certifier

__all__ = ["Board", "Certifier"]

"""What the report shows of trainings: curves and the share of labels with a partner."""

from __future__ import annotations

import numpy as np
import pytest
from report_cases import build_content, build_history

from pipeline.reports.drawing import thin
from pipeline.reports.report import render_report
from pipeline.reports.report_tables import training_summary
from pipeline.reports.training_figures import relations_figure, training_figure


@pytest.fixture(scope="module")
def html() -> str:
    return render_report(build_content())


def test_long_curves_are_thinned_to_means_of_neighbors() -> None:
    """600 points become 300 pairs: (0 + 1) / 2, (2 + 3) / 2, ..."""
    x, y = thin(np.arange(600), np.arange(600) * 2)
    assert x.tolist() == [2 * index + 0.5 for index in range(300)]
    assert np.array_equal(y, 2 * x)


def test_labels_with_a_partner_are_drawn_and_their_share_is_told_by_stage(html: str) -> None:
    """Two epochs of 55 % and 65 %: 60 % on average; the classifier had no contrastive loss."""
    assert "batch or queue" in html
    table = training_summary(build_history(n_steps=5))
    assert table is not None
    assert table["share_of_labels_with_partner"].tolist() == pytest.approx([0.6, np.nan], nan_ok=True)
    history = build_history(n_steps=5).drop(columns="partner_share_with_queue")
    drawing = relations_figure(history[history["mean_k"].notna()])
    assert "Labels with a partner" in drawing
    assert "batch or queue" not in drawing


def test_training_figure_leaves_out_a_stage_that_took_no_step() -> None:
    history = build_history(n_steps=5)
    history.loc[history["stage"] == "train_encoder", "loss"] = np.nan
    drawing = training_figure(history)
    assert "Loss, train classifier" in drawing
    assert "Loss, train encoder" not in drawing

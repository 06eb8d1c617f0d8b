"""The page about an audit of a plan: what is found, whether claims hold, what protection costs."""

import csv
from pathlib import Path

import numpy as np
import pytest
from report_folders import audit_folder, with_more_images
from report_pages import Page


def test_an_audit_tells_what_is_learnt_and_that_no_claim_is_refuted(audit_page: Page) -> None:
    _, claims, _ = audit_page.answer
    assert claims.says("4 audits", "95 %", "ε", "60.0 %")
    assert not claims.says("cases")
    assert claims.says("made-up features", "2,000", "the mechanism")
    assert "Too few" in audit_page.sections["attacks"].text
    pictures = audit_page.sections["images"].pictures
    assert len(pictures) == 4 * 6
    assert pictures[0] == "cat, site-0: original"
    [caption] = audit_page.sections["images"].tables
    assert "5 images a class" in caption
    assert "image-rendering: pixelated" in audit_page.source


def test_one_run_that_stands_for_several_cases_is_counted_once(audit_tables: Path, words) -> None:
    """Masks change nothing of a mechanism, so its bound is that of both; it was tested once."""
    table = (audit_tables / "table.csv").read_text("utf-8").splitlines()
    table += [line.replace(",dp,", ",both,", 1) for line in table if ",one run," in line]
    (audit_tables / "table.csv").write_text("\n".join(table) + "\n", "utf-8")
    _, claims, _ = words(audit_tables).answer
    assert claims.says("4 audits", "8 cases")


def test_a_bound_above_its_claim_refutes_it(tmp_path: Path, words) -> None:
    _, claims, _ = words(audit_folder(tmp_path / "audit", broken=True)).answer
    assert claims.number == "1 claim refuted"
    assert claims.says("fed3r, dp, ε = 1", "1.4", "the claim 1")


@pytest.mark.run
def test_a_figure_tells_where_the_curves_of_each_number_of_images_begin(tmp_path: Path, words) -> None:
    page = words(with_more_images(tmp_path / "audit"))
    assert page.figures["fedavg"].says("at 0.5 % (5 a class) and 0.2 % (25 a class)")


def test_an_audit_of_a_plan_is_told_at_a_glance(audit_page: Page) -> None:
    """A row a protection, a column a question: the most found, who has it, and what a guess has."""
    [glance] = audit_page.sections["glance"].tables.values()
    both, lira = ", fedavg and fed3r", ", fedavg by LiRA online and fed3r by LiRA online"
    assert [tuple(row.values()) for row in glance.rows if not row[""].startswith("masks")] == [
        ("no protection", f"100.0 %{both}", f"0.98{both}", f"16.0 dB{both}", f"13.5 %{lira}", "50.0 %"),
        (
            "differential privacy, ε = 2",
            f"12.0 %{both}",
            f"0.12{both}",
            f"12.5 dB{both}",
            f"1.9 %{lira}",
            "14.8 %",
        ),
        ("a guess", "50.0 %", "0.76", "13.1 dB", "1.0 %", "10.0 %"),
    ]
    assert audit_page.sections["glance"].says("5 images a class")


def test_the_answer_of_a_plan_is_short(audit_page: Page) -> None:
    found, _, cost = audit_page.answer
    assert found.number == "13.5 %; 1.9 % at ε = 2"
    assert found.says("1 % false alarms", "5 images a class")
    assert found.says("At ε = 2: 1.9 %", "LiRA online", "14.8 %")
    assert found.says("1.0 %", "10.0 %"), "a guess"
    assert cost.number == "up to 35.2 points"
    assert cost.says("fedavg", "5 images a class", "ε = 2", "14.8 %", "50.0 %")
    assert audit_page.says("ε = 1 to 4", "10⁻⁵", "one image", "add or remove one image")
    assert audit_page.sections["how"].says("64 shadow federations", "--shadows 256")


def test_settings_that_federations_share_and_those_that_differ_stand_apart(audit_page: Page) -> None:
    differ, share = audit_page.sections["configuration"].tables.values()
    assert dict(zip(differ.names, differ.column("dp"), strict=True)) == {
        "fedavg, none": "none",
        "fedavg, dp": "image",
    }
    assert share["rounds"]["value"] == "20"


def test_what_differs_in_numbers_is_left_out_of_notes(audit_tables: Path, words) -> None:
    rows = (audit_tables / "table.csv").read_text("utf-8").splitlines()
    for i, row in enumerate(rows):
        if ",exact_share," in row:
            rows[i] = f"{row}classes with the right number"
        elif ",l1," in row:
            rows[i] = f"{row}of {i} images"
    (audit_tables / "table.csv").write_text("\n".join(rows) + "\n", "utf-8")
    attacks = words(audit_tables).sections["attacks"]
    assert attacks.says("classes with the right number")
    assert not [
        paragraph for paragraph in attacks.paragraphs if " images" in paragraph and "of " in paragraph
    ]


def test_what_was_measured_once_is_shown_once_and_as_the_table_says(audit_copy: Path, words) -> None:
    """Masks leave the head as it is: findings under them are copies, shown once."""
    attacks = ("LiRA", "RMIA", "loss")
    for name in ("table.csv", "roc.csv"):
        header, *rows = (audit_copy / name).read_text("utf-8").splitlines()
        kept = [row for row in rows if ",masks," not in row or not any(word in row for word in attacks)]
        copied = [row for row in kept if ",none," in row and any(word in row for word in attacks)]
        copies = [row.replace(",none,", ",masks,") for row in copied]
        (audit_copy / name).write_text("\n".join([header, *kept, *copies]) + "\n", "utf-8")
    page = words(audit_copy)
    assert "fedavg, none, masks, 5 a class" in page.figures
    assert "fedavg, masks, 5 a class" not in page.figures
    members = page.sections["attacks"].tables["Membership, by the head that comes out"]
    assert members.column("protection").count("none, masks") == 2 * 4
    rows = csv.DictReader((audit_copy / "table.csv").open())
    top = max(float(row["value"]) for row in rows if row["measure"] == "tpr@1%")
    assert page.figures["fedavg, none, masks, 5 a class"].says(
        f"LiRA online finds most members: {100 * top:.1f} %"
    )


def test_a_page_says_that_it_shows_original_images(audit_page: Page, audit_tables: Path, words) -> None:
    assert audit_page.sections["images"].says("6 original training images", "reconstructions.npz")
    (audit_tables / "reconstructions.npz").unlink()
    page = words(audit_tables)
    assert "original training image" not in page.text
    assert "img" not in page.tags()
    assert page.says("pictures were not saved")


def test_without_a_class_of_one_image_there_is_no_gallery(audit_tables: Path, words) -> None:
    images = np.empty((0, 32, 32, 3), np.uint8)
    names, labels = np.array(["fedavg, none"]), np.array([], np.str_)
    np.savez(
        audit_tables / "reconstructions.npz",
        originals=images, class_means=images, rebuilt=images[None], names=names, labels=labels, sites=labels,
    )  # fmt: skip
    page = words(audit_tables)
    assert "images" not in page.sections
    assert "original training image" not in page.text

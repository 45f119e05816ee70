from __future__ import annotations

from xml.etree import ElementTree

from gaussianvae.charts import line_chart


def test_higher_values_stand_higher_and_names_are_escaped() -> None:
    svg = ElementTree.fromstring(line_chart({"a < b": [(0, 1), (1, 3), (2, 2)]}, "x", "y", marks=True))
    name = "{http://www.w3.org/2000/svg}"
    marks = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in svg.iter(f"{name}circle")]
    assert [m[0] for m in marks] == sorted(m[0] for m in marks)
    assert marks[1][1] < marks[2][1] < marks[0][1]
    assert any(text.text == "a < b" for text in svg.iter(f"{name}text"))


def test_nothing_and_a_single_point_can_be_drawn() -> None:
    for lines in ({}, {"a": []}, {"a": [(1.0, 1.0)]}):
        ElementTree.fromstring(line_chart(lines, "x", "y"))

import pytest

from coldray.errors import UserError

PRODUCTS = """id,locale,title,price,brand,color,size,model,material,author,desc
B1,FR,Lampe,10.0,Acme,noir,,,,,"une ""lampe""
de bureau"
B1,DE,Lampe DE,10.0,Acme,,,,,,
B3,DE,Tisch,5.0,,,,,,,
"""
TRAIN = """prev_items,next_item,locale
"['B1' 'B2' 'B2'
 'B4']",B5,FR
['B3'],B1,DE
[],B1,FR
"""
TEST = "prev_items,locale\n\"['B1' 'B2']\",FR\n['B3'],DE\n"
TRUTH = "next_item,locale\nB9,FR\nB3,DE\n"


@pytest.fixture
def source(tmp_path):
    files = {"products_train.csv": PRODUCTS, "sessions_train.csv": TRAIN}
    files |= {"sessions_test_task2_phase1.csv": TEST, "ground_truth/phase1/gt_task2.csv": TRUTH}
    (tmp_path / "ground_truth" / "phase1").mkdir(parents=True)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_sessions_of_one_locale_with_their_ground_truth(source, read_source) -> None:
    got = read_source(source, "amazon_m2", locale="FR")
    rows = [(r["user_id"], r["item_id"], r["part"]) for r in got.interactions]
    assert rows == [
        *[("sessions_train:2", item, "train") for item in ("B1", "B2", "B2", "B4", "B5")],
        *[("sessions_test_task2_phase1:2", item, "test") for item in ("B1", "B2")],
        ("sessions_test_task2_phase1:2", "B9", "target"),
    ]
    positions = [r["position"] for r in got.interactions[:5]]
    assert positions == sorted(set(positions))
    assert [(item["item_id"], item["title"], item["desc"]) for item in got.items] == [
        ("B1", "Lampe", 'une "lampe"\nde bureau')
    ]
    assert got.faults.count == 1
    assert (got.faults.samples[0].row, got.faults.samples[0].field) == (5, "prev_items")


def test_all_locales(source, read_source) -> None:
    got = read_source(source, "amazon_m2")
    assert {r["item_id"] for r in got.interactions} == {"B1", "B2", "B3", "B4", "B5", "B9"}
    assert len(got.items) == 3


def test_ground_truth_beside_the_test_file(source, read_source) -> None:
    (source / "ground_truth/phase1/gt_task2.csv").rename(source / "gt_task2_phase1.csv")
    got = read_source(source, "amazon_m2", locale="FR")
    assert [r["item_id"] for r in got.interactions if r["part"] == "target"] == ["B9"]


def test_missing_or_short_ground_truth(source, read_source) -> None:
    truth = source / "ground_truth/phase1/gt_task2.csv"
    truth.write_text("next_item,locale\nB9,FR\n")
    with pytest.raises(UserError, match="has not as many rows"):
        read_source(source, "amazon_m2")
    truth.unlink()
    with pytest.raises(UserError, match=r"gt_task2_phase1\.csv"):
        read_source(source, "amazon_m2")

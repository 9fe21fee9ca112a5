"""The digits example: its data agree with each other, and its check notices every kind of wrong output."""
import csv
import pathlib
import subprocess
import sys
import tempfile
import unittest

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples" / "digits"


def labels():
    with open(EXAMPLE / "labels.csv", newline="") as file:
        return {row["name"]: row["digit"] for row in csv.DictReader(file)}


class Accuracy(unittest.TestCase):
    def check(self, rows):
        """Runs accuracy.py on these rows: its exit code, and all that it said."""
        with tempfile.TemporaryDirectory() as folder:
            predictions = pathlib.Path(folder) / "predictions.csv"
            predictions.write_text("".join(row + "\n" for row in rows))
            done = subprocess.run(
                [sys.executable, str(EXAMPLE / "accuracy.py"), str(predictions), str(EXAMPLE / "labels.csv")],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                universal_newlines=True,
                timeout=60,
            )
        return done.returncode, done.stdout

    def setUp(self):
        self.rows = [f"{name},{digit}" for name, digit in labels().items()]

    def test_every_label_has_its_image_and_every_image_its_label(self):
        self.assertEqual({path.name for path in (EXAMPLE / "images").iterdir()}, set(labels()))

    def test_the_right_rows_in_any_order_are_accepted_with_their_accuracy(self):
        wrong = self.rows[0][:-1] + "x"
        code, text = self.check([wrong] + self.rows[:0:-1])
        self.assertEqual((code, "359 right: accuracy 99.7%" in text), (0, True), text)

    def test_a_missing_row_is_noticed(self):
        code, text = self.check(self.rows[1:])
        self.assertEqual((code, "missing: digit-0000.png" in text), (1, True), text)

    def test_a_doubled_row_is_noticed(self):
        code, text = self.check(self.rows + self.rows[:1])
        self.assertEqual((code, "2 times: digit-0000.png" in text), (1, True), text)

    def test_a_row_of_no_image_is_noticed(self):
        code, text = self.check(self.rows + ["stranger.png,1"])
        self.assertEqual((code, "stranger.png" in text), (1, True), text)

    def test_a_torn_row_is_noticed(self):
        code, text = self.check(self.rows[:-1] + [self.rows[-1].split(",")[0]])
        self.assertEqual(code, 1, text)

    def test_an_empty_output_is_not_an_accuracy(self):
        code, text = self.check([])
        self.assertEqual((code, "accuracy" in text.replace("accuracy.py", "")), (1, False), text)


if __name__ == "__main__":
    unittest.main()

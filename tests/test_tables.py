"""Tables as people have them: each is read, or refused with its line and the cure."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from resnets.data.check import check_images
from resnets.data.readers.rows import read_rows
from resnets.data.sources import find_data


def images(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (hash(name) % 256, 0, 0)).save(root / name, "PNG")
    return root


def table(root, text, name="labels.csv"):
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8", newline="")
    return root / name


def pairs(found):
    return [(sample.name, *sample.labels) for sample in found.samples]


def error_of(path):
    with pytest.raises(ValueError, match=r".") as error:
        find_data(path)
    return str(error.value)


@pytest.mark.parametrize("name", ["labels.csv", "labels.tsv"])
@pytest.mark.parametrize(
    ("mark", "word"), [(",", "commas"), (";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")]
)
def test_whatever_separates_the_columns(tmp_path, name, mark, word):
    text = f"file_name{mark}label\na/1.png{mark}a, b; c\nb/2.png{mark}d\n".replace(
        "a, b; c", '"a, b; c"'
    )
    found = find_data(table(tmp_path, text, name))
    assert pairs(found) == [("a/1.png", "a, b; c"), ("b/2.png", "d")]
    usual = mark == ("\t" if name.endswith("tsv") else ",")
    assert found.notes == (() if usual else (f"{name}: separated by {word}",))


def test_excels_first_line_and_blank_lines_above_the_header(tmp_path):
    assert pairs(find_data(table(tmp_path, "sep=;\r\nfile;label\r\n1.png;a\r\n"))) == [
        ("1.png", "a")
    ]
    text = '\n\nfile,label\n1.png,a\n\n"2.png,b\n'
    assert ", line 6: not a table with commas" in error_of(table(tmp_path, text))


@pytest.mark.parametrize(
    "text", ['file_name, label\n"a/1.png", "a"\n', '"file_name", "label"\na/1.png,  "a"\n']
)
def test_a_space_before_a_quote_is_no_part_of_the_name(tmp_path, text):
    assert pairs(find_data(table(tmp_path, text))) == [("a/1.png", "a")]


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (["1.png,a", '"2.png,b', "3.png,c", "4.png,d"], 3),  # to the end of the file
        (["1.png,a", '"2.png,b', '"3.png",c'], 3),  # to the next quote
        (['"1.png","a', '"2.png","b"'], 2),
        (['"two', 'lines.png",a', '3.png,"b', "4.png,c"], 4),
        (["1.png,a", '"2.png"x,b'], 3),
    ],
)
def test_an_unbalanced_quote_names_its_own_line(tmp_path, lines, line):
    message = error_of(table(tmp_path, "\n".join(["file,label", *lines]) + "\n"))
    assert f"labels.csv, line {line}: not a table with commas" in message
    assert "a quote that is opened there and not closed: close it, or remove it" in message


def test_a_comma_in_a_name_without_quotes_is_not_cut_off(tmp_path):
    message = error_of(table(tmp_path, "file,label\n1.png,a\nb,2.png,c\n"))
    assert "line 3: 3 cells for 2 columns" in message
    assert "in quotes" in message
    assert pairs(find_data(table(tmp_path, "file,label\n1.png,a,,\n"))) == [("1.png", "a")]


def test_a_table_without_a_header(tmp_path):
    message = error_of(table(tmp_path, "a/1.png,a\nb/2.png,b\n"))
    assert "has no header, its first line is a/1.png, a; write file_name,label above it" in message
    message = error_of(table(tmp_path, "a/1.png;a\n"))
    assert "write file_name;label above it" in message


def test_backslashes_are_slashes_where_no_file_has_them(tmp_path):
    images(tmp_path, "a/x/1.png", "b/2.png")
    found = find_data(table(tmp_path, "file,label\na\\x\\1.png,a\n.\\b\\2.png,b\n"))
    assert pairs(found) == [("./b/2.png", "b"), ("a/x/1.png", "a")]
    assert all(sample.path.is_file() for sample in found.samples)
    assert found.notes == ("2 names with backslashes, read as slashes",)
    images(tmp_path, "c\\3.png")
    assert pairs(find_data(table(tmp_path, "file,label\nc\\3.png,a\n"))) == [("c\\3.png", "a")]


def test_names_without_a_suffix_are_found_where_one_file_is_meant(tmp_path):
    images(tmp_path, "a/1.png", "a/2.png", "a/2.jpg", "a/3", "a/4.v2.PNG")
    found = find_data(table(tmp_path, "file,label\na/1,x\na/2,y\na/3,z\na/4.v2,z\na/5,z\n"))
    assert [sample.name for sample in found.samples] == [
        "a/1.png",
        "a/2",
        "a/3",
        "a/4.v2.PNG",
        "a/5",
    ]
    assert found.notes == ("2 names without a suffix, found with one",)


def test_names_in_another_form_of_unicode_are_found(tmp_path):
    name = unicodedata.normalize("NFD", "é.png")
    images(tmp_path, name)
    found = find_data(table(tmp_path, f"file,label\n{unicodedata.normalize('NFC', name)},a\n"))
    assert found.samples[0].path.is_file()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("1.png,a,\n2.png,b,\n1.png,b,\n", ["line 4: 1.png is b, and in line 2 it is a"]),
        (
            "1.png,a,train\n./1.png,a,val\n",
            ["line 3: ./1.png is a, val, and in line 2 it is a, train"],
        ),
    ],
)
def test_a_file_with_two_labels_or_splits_is_refused_with_both_lines(tmp_path, lines, words):
    message = error_of(table(tmp_path, f"file,label,split\n{lines}"))
    assert all(word in message for word in words), message


def test_a_line_that_is_there_twice_counts_once(tmp_path):
    found = find_data(table(tmp_path, "file,label\n1.png,a\n2.png,b\n1.png,a\n1.png,a\n"))
    assert pairs(found) == [("1.png", "a"), ("2.png", "b")]
    assert found.notes == ("left out: 2 lines repeating another",)


def test_a_table_far_from_its_files_says_where_they_were_looked_for(tmp_path):
    path = table(tmp_path / "elsewhere", "file,label\na/1.png,a\nb/2.png,b\n")
    images(tmp_path, "a/1.png", "b/2.png")
    errors = [f.text for f in check_images(find_data(path)).findings if f.severity == "error"]
    assert errors[0].startswith(
        f"not one of the files is there: a/1.png was looked for at {path.parent / 'a/1.png'}"
    )
    path = table(tmp_path, "file,label\na/1.png,a\nb/gone.png,b\n")
    texts = [f.text for f in check_images(find_data(path)).findings]
    assert "unusable, skipped: no such file (b/gone.png)" in texts
    assert not any("not one of the files" in text for text in texts)


def test_a_table_that_cannot_be_opened(tmp_path, monkeypatch):
    path = table(tmp_path, "file,label\n1.png,a\n")

    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)
    assert f"{path}: the table cannot be read (Permission denied)" in error_of(path)


# ---- tables that are no tables of labels


@pytest.mark.parametrize(
    "text",
    [
        "camera,date\nx,y\n",
        "id,name\n0,a\n",
        "",
        "\n\n",
        "just a text",
        'an open "quote\nand more',
        "a/1.png,one\n",
    ],
)
@pytest.mark.parametrize("name", ["labels.csv", "metadata.csv", "metadata.tsv"])
def test_an_unrelated_table_does_not_hide_class_folders(tmp_path, text, name):
    images(tmp_path, "a/1.png", "b/2.png")
    table(tmp_path, text, name)
    found = find_data(tmp_path)
    assert found.classes == ("a", "b")
    assert found.notes == (f"{name} is not used: it has no columns file_name and label",)


def test_an_unrelated_table_in_other_letters_does_not_either(tmp_path):
    images(tmp_path, "train/a/1.png", "train/b/2.png", "val/a/3.png")
    (tmp_path / "metadata.csv").write_bytes("Größe,Ort\n1,Köln\n".encode("latin-1"))
    assert find_data(tmp_path).layout == "train | val / CLASS / images"


def test_the_table_of_labels_is_taken_where_both_are_there(tmp_path):
    images(tmp_path, "a/1.png", "b/2.png")
    table(tmp_path, "id,name\n0,a\n", "labels.csv")
    table(tmp_path, "file_name,label\na/1.png,one\n", "metadata.csv")
    assert find_data(tmp_path).classes == ("one",)


def test_a_table_that_was_meant_is_not_passed_over(tmp_path):
    table(tmp_path, "file_name,breed\n1.png,a\n")
    images(tmp_path, "1.png")
    assert "columns are file_name, breed; file_name and label are needed" in error_of(tmp_path)
    table(tmp_path, "file_name,label\n1.png,\n")
    images(tmp_path, "a/1.png", "b/2.png")
    assert "line 2: a file name and a label are needed" in error_of(tmp_path)


# ---- anything


@settings(max_examples=300, deadline=None)
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.lists(st.sampled_from(['"', ",", ";", "\n", "\r", "a", "1.png", "\t", "\0", " "])).map(
            lambda parts: ("file,label\n" + "".join(parts)).encode()
        ),
    )
)
def test_any_bytes_are_rows_or_a_message_that_names_the_file(content, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    message, rows, found = "", [], None
    try:
        rows = read_rows(path).rows
        found = find_data(path)
    except ValueError as error:
        message = str(error)
    if message:
        assert message.startswith(str(path))
    else:
        assert all(row.file and (row.label or found.kind == "labels") for row in rows)
        assert 0 < len(found.samples) <= len(rows)

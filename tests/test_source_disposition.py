import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelbay.safepath import SafeRelPath
from modelbay.sources.disposition import name_in, safe_name


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="model.safetensors"', "model.safetensors"),
        ("attachment; filename=model.gguf", "model.gguf"),
        ("inline; filename*=UTF-8''mod%C3%A8le.onnx; filename=\"x.onnx\";", "mod\xe8le.onnx"),
        ("attachment;filename=\"x.bin\";filename*=UTF-8''y.bin", "y.bin"),
        ("attachment; FILENAME*=utf-8'en'%e2%82%ac%20rates.bin", "\u20ac rates.bin"),
        ("attachment; filename*=ISO-8859-1''caf%e9.bin", "caf\xe9.bin"),
        ('attachment; filename="a \\"quoted\\" name.bin"', 'a "quoted" name.bin'),
        ('attachment; filename="semi;colon.bin"', "semi;colon.bin"),
        ('attachment; filename="x%20y.bin"', "x%20y.bin"),
        ('attachment ; filename = "spaced.bin" ', "spaced.bin"),
        ("attachment; filename*=UTF-8''%FF%FE; filename=\"fallback.bin\"", "fallback.bin"),
        ("attachment; filename*=KOI8-R''x; filename=y.bin", "y.bin"),
        ("attachment; filename*=nonsense; filename=y.bin", "y.bin"),
        ('attachment; filename="mod\xc3\xa8le.bin"', "mod\xe8le.bin"),
        ('attachment; filename="caf\xe9.bin"', "caf\xe9.bin"),
        ("attachment; filename=a.bin; filename=b.bin", "a.bin"),
        ("attachment", None),
        ("", None),
        ('attachment; filename=""', None),
        ("attachment; size=3; name=x", None),
        ('filename="no-type.bin"', None),
    ],
)
def test_the_name_is_read_as_servers_write_it(header, name):
    assert name_in(header) == name


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\x\\model.bin", "model.bin"),
        ("/absolute/model.bin", "model.bin"),
        ("..", "download"),
        ("", "download"),
        (".bashrc", "_bashrc"),
        ("...hidden", "_hidden"),
        ("con.txt", "_con.txt"),
        ("NUL", "_NUL"),
        ("model.bin. . ", "model.bin"),
        ("  model.bin", "model.bin"),
        ('a:b*c?"d<e>f|g.bin', "a_b_c__d_e_f_g.bin"),
        ("x\x1b[2J\u202egnp.exe", "x[2Jgnp.exe"),
        ("e\u0301.bin", "\xe9.bin"),
        (".modelbay", "_modelbay"),
        ("dir/", "download"),
    ],
)
def test_a_suggested_name_is_bent_into_an_ordinary_one(told, name):
    assert safe_name(told) == name


def test_a_long_name_keeps_its_extension():
    name = safe_name("\u6a21" * 300 + ".safetensors")

    assert name.endswith(".safetensors")
    assert len(name.encode()) <= 255


@given(st.text(st.characters(), max_size=300))
def test_every_suggestion_becomes_one_safe_component(told):
    name = safe_name(told)

    assert SafeRelPath.component(name) == name


@given(st.text(max_size=200))
def test_no_header_breaks_the_reader(header):
    found = name_in(f"attachment;{header}")

    assert found is None or found

import ssl
from pathlib import Path

import certifi
import pytest
import trustme

from qwen_mitm.authorities import with_more


@pytest.fixture
def company(tmp_path: Path) -> Path:
    path = tmp_path / "company.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


def trusted(path: Path) -> set[bytes]:
    return set(ssl.create_default_context(cafile=path).get_ca_certs(binary_form=True))


def test_both_lists_are_trusted(tmp_path: Path, company: Path) -> None:
    found = with_more(company, tmp_path / "none.pem", tmp_path / "state")
    assert found is not None
    path, count = found
    assert count == 1
    assert trusted(path) == trusted(Path(certifi.where())) | trusted(company)


def test_the_same_content_is_the_same_file(tmp_path: Path, company: Path) -> None:
    first = with_more(company, tmp_path / "none.pem", tmp_path / "state")
    assert with_more(company, tmp_path / "none.pem", tmp_path / "state") == first
    assert len(list((tmp_path / "state").iterdir())) == 1


def test_a_list_that_adds_nothing_needs_no_file(tmp_path: Path, company: Path) -> None:
    assert with_more(Path(certifi.where()), tmp_path / "none.pem", tmp_path) is None
    assert with_more(company, company, tmp_path) is None


def test_the_proxys_own_authority_is_left_out_of_a_bundle(tmp_path: Path, company: Path) -> None:
    own = tmp_path / "own.pem"
    trustme.CA().cert_pem.write_to_path(str(own))
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(own.read_text() + company.read_text())
    found = with_more(bundle, own, tmp_path / "state")
    assert found is not None
    assert trusted(found[0]).isdisjoint(trusted(own))
    assert trusted(found[0]) >= trusted(company)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        with_more(tmp_path / "gone.pem", tmp_path / "none.pem", tmp_path)

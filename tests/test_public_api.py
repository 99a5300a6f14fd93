import restrl


def test_every_exported_name_exists_and_is_documented() -> None:
    for name in restrl.__all__:
        assert getattr(restrl, name).__doc__, name


def test_lazy_names_are_exported() -> None:
    assert set(restrl._LAZY) < set(restrl.__all__)

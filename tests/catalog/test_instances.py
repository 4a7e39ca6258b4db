"""Instance types are found whatever their case, with figures that are whole."""

from kaito.catalog.instances import find_instance_type, instance_types, nearest_instance_types


def test_the_readme_type_is_known() -> None:
    found = find_instance_type("standard_nc6S_V3")
    assert found is not None
    assert (found.name, found.gpu_count, found.resource) == ("Standard_NC6s_v3", 1, "nvidia.com/gpu")


def test_every_row_has_a_gpu_with_memory() -> None:
    types = instance_types()
    assert len(types) > 150
    assert all(t.gpu_count >= 1 and t.gpu_memory_mib >= 1024 for t in types.values() if t.gpu_model != "none")


def test_a_miss_names_what_looks_like_it() -> None:
    assert find_instance_type("Standard_NC6s_v4") is None
    assert "Standard_NC6s_v3" in nearest_instance_types("Standard_NC6s_v4")
    assert nearest_instance_types("qqqq") == []

"""Virtual MFA devices."""

from __future__ import annotations

import base64

from pilvi.auth.totp import code_of, step_at


def codes(server, seed):
    """The two codes that the device shows now and before."""
    step = step_at(server.cloud.clock.real_s())
    raw = base64.b32decode(seed)
    return code_of(raw, step - 1), code_of(raw, step)


def made(iam, name="phone"):
    device = iam.create_virtual_mfa_device(VirtualMFADeviceName=name)["VirtualMFADevice"]
    return device["SerialNumber"], device["Base32StringSeed"]


def test_code_of_is_what_the_rfc_shows():
    # RFC 6238, appendix B, SHA-1, the last six digits.
    seed = b"12345678901234567890"
    assert [code_of(seed, step_at(when)) for when in (59, 1111111109, 20000000000)] == ["287082", "081804", "353130"]


def test_create_virtual_mfa_device_gives_a_seed_once(aws, iam, refused):
    serial, seed = made(iam)
    assert serial == f"arn:aws:iam::{aws.account}:mfa/phone"
    assert len(base64.b32decode(seed)) == 40
    assert iam.list_virtual_mfa_devices()["VirtualMFADevices"] == [{"SerialNumber": serial}]
    with refused("EntityAlreadyExists", "MFADevice entity at the same path and name already exists.", 409):
        made(iam)


def test_enable_mfa_device_needs_two_right_codes(server, aws, iam, refused):
    iam.create_user(UserName="ada")
    serial, seed = made(iam)
    first, second = codes(server, seed)
    with refused("InvalidAuthenticationCode", "Authentication code for device is not valid.", 403):
        iam.enable_mfa_device(UserName="ada", SerialNumber=serial, AuthenticationCode1=second, AuthenticationCode2=first)
    iam.enable_mfa_device(UserName="ada", SerialNumber=serial, AuthenticationCode1=first, AuthenticationCode2=second)
    (held,) = iam.list_mfa_devices(UserName="ada")["MFADevices"]
    assert (held["UserName"], held["SerialNumber"]) == ("ada", serial)
    (listed,) = iam.list_virtual_mfa_devices(AssignmentStatus="Assigned")["VirtualMFADevices"]
    assert listed["User"]["UserName"] == "ada"
    assert iam.list_virtual_mfa_devices(AssignmentStatus="Unassigned")["VirtualMFADevices"] == []
    assert iam.get_mfa_device(SerialNumber=serial)["UserName"] == "ada"
    assert iam.get_account_summary()["SummaryMap"]["MFADevicesInUse"] == 1
    with refused("DeleteConflict", "Cannot delete entity, must delete MFA device first.", 409):
        iam.delete_user(UserName="ada")
    with refused("DeleteConflict", "MFA VirtualDevice is in use. Must deactivate first.", 409):
        iam.delete_virtual_mfa_device(SerialNumber=serial)
    iam.update_user(UserName="ada", NewUserName="lovelace")
    assert iam.get_mfa_device(SerialNumber=serial)["UserName"] == "lovelace"
    iam.deactivate_mfa_device(UserName="lovelace", SerialNumber=serial)
    assert iam.list_mfa_devices(UserName="lovelace")["MFADevices"] == []
    iam.delete_virtual_mfa_device(SerialNumber=serial)
    iam.delete_user(UserName="lovelace")


def test_enable_mfa_device_for_the_root_user(server, aws, iam):
    serial, seed = made(iam, "root-account-mfa-device")
    first, second = codes(server, seed)
    iam.enable_mfa_device(UserName="root", SerialNumber=serial, AuthenticationCode1=first, AuthenticationCode2=second)
    assert [device["SerialNumber"] for device in iam.list_mfa_devices()["MFADevices"]] == [serial]
    assert iam.get_account_summary()["SummaryMap"]["AccountMFAEnabled"] == 1
    iam.resync_mfa_device(UserName="root", SerialNumber=serial, AuthenticationCode1=first, AuthenticationCode2=second)


def test_a_code_is_good_once_and_for_its_holder(server, aws, iam):
    serial, seed = made(iam)
    first, second = codes(server, seed)
    iam.enable_mfa_device(UserName="root", SerialNumber=serial, AuthenticationCode1=first, AuthenticationCode2=second)
    identities = server.cloud.identities
    root = identities.root(aws.account)
    raw = base64.b32decode(seed)
    following = code_of(raw, step_at(server.cloud.clock.real_s()) + 1)
    assert not identities.is_mfa_code(root, serial, second)
    assert identities.is_mfa_code(root, serial, following)
    assert not identities.is_mfa_code(root, serial, following)
    assert not identities.is_mfa_code(identities.root("123456789012"), serial, following)


def test_mfa_device_missing(iam, aws, refused):
    serial = f"arn:aws:iam::{aws.account}:mfa/none"
    text = f"VirtualMFADevice with serial number {serial} does not exist."
    with refused("NoSuchEntity", text, 404):
        iam.delete_virtual_mfa_device(SerialNumber=serial)
    with refused("NoSuchEntity", text, 404):
        iam.get_mfa_device(SerialNumber=serial)


def test_mfa_device_tags(iam):
    serial, _ = made(iam)
    iam.tag_mfa_device(SerialNumber=serial, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    iam.untag_mfa_device(SerialNumber=serial, TagKeys=["a"])
    assert iam.list_mfa_device_tags(SerialNumber=serial)["Tags"] == [{"Key": "b", "Value": "2"}]

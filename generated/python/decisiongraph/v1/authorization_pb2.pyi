from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_READER: _ClassVar[Role]
    ROLE_WRITER: _ClassVar[Role]
    ROLE_ADMIN: _ClassVar[Role]

class Permission(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PERMISSION_UNSPECIFIED: _ClassVar[Permission]
    PERMISSION_PROJECTION_REPLAY: _ClassVar[Permission]
    PERMISSION_PROJECTION_REBUILD: _ClassVar[Permission]
    PERMISSION_AUDIT_READ: _ClassVar[Permission]
    PERMISSION_ACCESS_MANAGE: _ClassVar[Permission]
ROLE_UNSPECIFIED: Role
ROLE_READER: Role
ROLE_WRITER: Role
ROLE_ADMIN: Role
PERMISSION_UNSPECIFIED: Permission
PERMISSION_PROJECTION_REPLAY: Permission
PERMISSION_PROJECTION_REBUILD: Permission
PERMISSION_AUDIT_READ: Permission
PERMISSION_ACCESS_MANAGE: Permission
AUTHORIZATION_FIELD_NUMBER: _ClassVar[int]
authorization: _descriptor.FieldDescriptor

class Authorization(_message.Message):
    __slots__ = ("public", "role", "permissions", "installation_wide")
    PUBLIC_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PERMISSIONS_FIELD_NUMBER: _ClassVar[int]
    INSTALLATION_WIDE_FIELD_NUMBER: _ClassVar[int]
    public: bool
    role: Role
    permissions: _containers.RepeatedScalarFieldContainer[Permission]
    installation_wide: bool
    def __init__(self, public: _Optional[bool] = ..., role: _Optional[_Union[Role, str]] = ..., permissions: _Optional[_Iterable[_Union[Permission, str]]] = ..., installation_wide: _Optional[bool] = ...) -> None: ...

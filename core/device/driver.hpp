// The functions of the CUDA driver library that this folder calls. Declared here, not included: a
// build needs no CUDA, and a machine without it gets an error when a GPU is asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/result.hpp"

namespace loadstone::device {

using Handle = struct Opaque*;  // CUcontext, CUstream, CUevent
using Address = uint64_t;       // CUdeviceptr

struct Driver {
  int (*init)(unsigned);
  int (*count)(int*);
  int (*get)(int*, int);
  int (*name)(char*, int, int);
  int (*attribute)(int*, int, int);
  int (*total)(size_t*, int);
  int (*memory)(size_t* free, size_t* total);
  int (*retain)(Handle*, int);
  int (*set_current)(Handle);
  int (*allocate)(Address*, size_t);
  int (*free)(Address);
  int (*pin)(void**, size_t, unsigned);
  int (*unpin)(void*);
  int (*host_register)(void*, size_t, unsigned);
  int (*host_unregister)(void*);
  int (*make_stream)(Handle*, unsigned);
  int (*destroy_stream)(Handle);
  int (*wait_stream)(Handle);
  int (*make_event)(Handle*, unsigned);
  int (*destroy_event)(Handle);
  int (*record)(Handle, Handle);
  int (*wait_event)(Handle);
  int (*to_device)(Address, const void*, size_t, Handle);
  int (*to_host)(void*, Address, size_t);
  int (*from_host)(Address, const void*, size_t);
  int (*within)(Address, Address, size_t, Handle);
  int (*fill)(Address, unsigned char, size_t, Handle);
  int (*text)(int, const char**);

  /// What a result code means: "out of memory".
  std::string describe(int code) const;
};

/// The driver, opened and initialised once a process. The error's detail says what is missing.
const Result<Driver>& driver();

/// "cannot use cuda:N: found …, expected …"
Error cannot_use(uint32_t index, std::string found, std::string expected);

/// The primary context of a GPU (the one LibTorch and plugins use), made current for this thread.
Status enter(uint32_t index);

/// Checks a call's result code; out of memory is a resource error, all else is io.
Status check(int code, const char* what);

}  // namespace loadstone::device

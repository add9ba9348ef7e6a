#include "device/driver.hpp"

#include <dlfcn.h>

#include <mutex>
#include <unordered_map>

namespace loadstone::device {

namespace {

constexpr int kOutOfMemory = 2;  // CUDA_ERROR_OUT_OF_MEMORY

Error missing(std::string found) {
  return Error{Code::unsupported, "no CUDA here", "", std::move(found), ""};
}

template <typename Function>
bool bind(void* library, const char* name, Function& out) {
  out = reinterpret_cast<Function>(dlsym(library, name));
  return out != nullptr;
}

Result<Driver> open_driver() {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return missing("found no libcuda.so.1 (the NVIDIA driver)");
  Driver d{};
  bool whole =
      bind(library, "cuInit", d.init) && bind(library, "cuDeviceGetCount", d.count) &&
      bind(library, "cuDeviceGet", d.get) && bind(library, "cuDeviceGetName", d.name) &&
      bind(library, "cuDeviceGetAttribute", d.attribute) &&
      bind(library, "cuDeviceTotalMem_v2", d.total) && bind(library, "cuMemGetInfo_v2", d.memory) &&
      bind(library, "cuDevicePrimaryCtxRetain", d.retain) &&
      bind(library, "cuCtxSetCurrent", d.set_current) &&
      bind(library, "cuMemAlloc_v2", d.allocate) && bind(library, "cuMemFree_v2", d.free) &&
      bind(library, "cuMemHostAlloc", d.pin) && bind(library, "cuMemFreeHost", d.unpin) &&
      bind(library, "cuMemHostRegister_v2", d.host_register) &&
      bind(library, "cuMemHostUnregister", d.host_unregister) &&
      bind(library, "cuStreamCreate", d.make_stream) &&
      bind(library, "cuStreamDestroy_v2", d.destroy_stream) &&
      bind(library, "cuStreamSynchronize", d.wait_stream) &&
      bind(library, "cuEventCreate", d.make_event) &&
      bind(library, "cuEventDestroy_v2", d.destroy_event) &&
      bind(library, "cuEventRecord", d.record) &&
      bind(library, "cuEventSynchronize", d.wait_event) &&
      bind(library, "cuMemcpyHtoDAsync_v2", d.to_device) &&
      bind(library, "cuMemcpyDtoH_v2", d.to_host) &&
      bind(library, "cuMemcpyHtoD_v2", d.from_host) &&
      bind(library, "cuMemcpyDtoDAsync_v2", d.within) && bind(library, "cuMemsetD8Async", d.fill) &&
      bind(library, "cuGetErrorString", d.text);
  if (!whole) return missing("found a libcuda.so.1 that lacks functions");
  if (int code = d.init(0); code != 0)
    return missing("found a driver that says: " + d.describe(code));
  return d;
}

}  // namespace

std::string Driver::describe(int code) const {
  const char* out = nullptr;
  if (text(code, &out) != 0 || out == nullptr) return "error " + std::to_string(code);
  return out;
}

const Result<Driver>& driver() {
  static const Result<Driver> opened = open_driver();
  return opened;
}

Error cannot_use(uint32_t index, std::string found, std::string expected) {
  return Error{Code::unsupported, "cannot use cuda:" + std::to_string(index), "",
               "found " + std::move(found) + ", expected " + std::move(expected), ""};
}

Status check(int code, const char* what) {
  if (code == 0) return {};
  return Error{code == kOutOfMemory ? Code::resource : Code::io, std::string(what) + " failed",
               "GPU", "found " + driver()->describe(code), ""};
}

Status enter(uint32_t index) {
  const Result<Driver>& opened = driver();
  if (!opened.ok()) {
    Error error = opened.error();
    error.message = "cannot use cuda:" + std::to_string(index);
    return error;
  }
  const Driver& d = *opened;
  static std::mutex mutex;
  static std::unordered_map<uint32_t, Handle> contexts;
  Handle context = nullptr;
  {
    std::lock_guard lock(mutex);
    Handle& known = contexts[index];
    if (known == nullptr) {
      int count = 0, device = 0;
      if (d.count(&count) != 0) count = 0;
      if (index >= static_cast<uint32_t>(count)) {
        return cannot_use(index, std::to_string(count) + (count == 1 ? " GPU" : " GPUs"),
                          "more than " + std::to_string(index));
      }
      LS_CHECK(check(d.get(&device, static_cast<int>(index)), "opening a GPU"));
      LS_CHECK(check(d.retain(&known, device), "opening a GPU"));
    }
    context = known;
  }
  return check(d.set_current(context), "opening a GPU");
}

}  // namespace loadstone::device

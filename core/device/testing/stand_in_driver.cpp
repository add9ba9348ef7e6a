// A stand-in for libcuda.so.1 over host memory, for tests of everything but speed on machines
// without a GPU. Copies, and what cuLaunchHostFunc puts in place of kernels, happen as late as the
// driver may let them: when an event or a stream is waited for. Pinned memory that is overwritten
// too early, or a copy that nobody waits for, shows as wrong bytes. Its memory is 8 GiB, or as many
// bytes as STAND_IN_NBYTES says.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <utility>

namespace {

struct Stream {
  std::mutex mutex;
  std::deque<std::function<void()>> waiting;
  uint64_t queued = 0, done = 0;

  void run_until(uint64_t count) {
    std::lock_guard lock(mutex);
    for (; done < count && !waiting.empty(); ++done, waiting.pop_front()) waiting.front()();
  }
  int enqueue(std::function<void()> work) {
    std::lock_guard lock(mutex);
    waiting.push_back(std::move(work));
    queued += 1;
    return 0;
  }
};

struct Event {
  Stream* stream = nullptr;
  uint64_t mark = 0;
};

constexpr int kFine = 0, kInvalid = 1, kOutOfMemory = 2;
constexpr int kMajorAttribute = 75, kReadOnlyRegisterAttribute = 113;

void* fresh(size_t nbytes) {
  void* at = std::aligned_alloc(4096, (nbytes + 4095) / 4096 * 4096);
  if (at != nullptr) std::memset(at, 0xA5, nbytes);
  return at;
}

/// Host memory that was registered, by its begin.
class Registered {
 public:
  bool add(uintptr_t at, size_t nbytes) {
    std::lock_guard lock(mutex_);
    if (nbytes == 0 || at % kPage != 0 || nbytes % kPage != 0) return false;
    const auto next = ranges_.lower_bound(at);
    if (next != ranges_.end() && next->first < at + nbytes) return false;
    if (next != ranges_.begin() && std::prev(next)->second > at) return false;
    return ranges_.emplace(at, at + nbytes).second;
  }
  bool remove(uintptr_t at) {
    std::lock_guard lock(mutex_);
    return ranges_.erase(at) == 1;
  }

 private:
  static constexpr uintptr_t kPage = 4096;
  std::mutex mutex_;
  std::map<uintptr_t, uintptr_t> ranges_;
};

Registered& registered() {
  static Registered all;
  return all;
}

/// The GPU's memory and what is allocated of it.
class DeviceMemory {
 public:
  static size_t total() {
    const char* asked = std::getenv("STAND_IN_NBYTES");
    return asked != nullptr ? std::strtoull(asked, nullptr, 10) : size_t{8} << 30;
  }
  size_t free() {
    std::lock_guard lock(mutex_);
    return total() - std::min(total(), taken_);
  }
  void* allocate(size_t nbytes) {
    std::lock_guard lock(mutex_);
    if (nbytes > total() - std::min(total(), taken_)) return nullptr;
    void* at = fresh(nbytes);
    if (at != nullptr) taken_ += sizes_[at] = nbytes;
    return at;
  }
  void release(void* at) {
    std::lock_guard lock(mutex_);
    taken_ -= sizes_[at];
    sizes_.erase(at);
    std::free(at);
  }

 private:
  std::mutex mutex_;
  size_t taken_ = 0;
  std::map<void*, size_t> sizes_;
};

DeviceMemory& device_memory() {
  static DeviceMemory one;
  return one;
}

}  // namespace

extern "C" {
int cuInit(unsigned) { return kFine; }
int cuDeviceGetCount(int* count) { return *count = 1, kFine; }
int cuDeviceGet(int* device, int index) { return *device = index, kFine; }
int cuDeviceGetName(char* name, int, int) { return std::strcpy(name, "stand-in"), kFine; }
int cuDeviceGetAttribute(int* value, int which, int) {
  *value = which == kMajorAttribute ? 9 : which == kReadOnlyRegisterAttribute ? 1 : 0;
  return kFine;
}
int cuDeviceTotalMem_v2(size_t* nbytes, int) { return *nbytes = DeviceMemory::total(), kFine; }
int cuMemGetInfo_v2(size_t* free, size_t* total) {
  *free = device_memory().free();
  *total = DeviceMemory::total();
  return kFine;
}
int cuDevicePrimaryCtxRetain(void** context, int) {
  static int any;
  return *context = &any, kFine;
}
int cuCtxSetCurrent(void*) { return kFine; }
int cuMemAlloc_v2(uint64_t* address, size_t nbytes) {
  void* at = device_memory().allocate(nbytes);
  *address = reinterpret_cast<uint64_t>(at);
  return at == nullptr ? kOutOfMemory : kFine;
}
int cuMemFree_v2(uint64_t address) {
  return device_memory().release(reinterpret_cast<void*>(address)), kFine;
}
int cuMemHostAlloc(void** at, size_t nbytes, unsigned) { return *at = fresh(nbytes), kFine; }
int cuMemFreeHost(void* at) { return std::free(at), kFine; }
/// Refuses what the driver refuses: parts of a page, and what is registered already.
int cuMemHostRegister_v2(void* at, size_t nbytes, unsigned) {
  return registered().add(reinterpret_cast<uintptr_t>(at), nbytes) ? kFine : kInvalid;
}
int cuMemHostUnregister(void* at) {
  return registered().remove(reinterpret_cast<uintptr_t>(at)) ? kFine : kInvalid;
}
int cuStreamCreate(void** stream, unsigned) { return *stream = new Stream, kFine; }
int cuStreamDestroy_v2(void* stream) { return delete static_cast<Stream*>(stream), kFine; }
int cuStreamSynchronize(void* stream) {
  return static_cast<Stream*>(stream)->run_until(UINT64_MAX), kFine;
}
int cuEventCreate(void** event, unsigned) { return *event = new Event, kFine; }
int cuEventDestroy_v2(void* event) { return delete static_cast<Event*>(event), kFine; }
int cuEventRecord(void* event, void* stream) {
  auto* on = static_cast<Stream*>(stream);
  std::lock_guard lock(on->mutex);
  *static_cast<Event*>(event) = {on, on->queued};
  return kFine;
}
int cuEventSynchronize(void* event) {
  auto* mark = static_cast<Event*>(event);
  if (mark->stream != nullptr) mark->stream->run_until(mark->mark);
  return kFine;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void* from, size_t nbytes, void* stream) {
  return static_cast<Stream*>(stream)->enqueue(
      [=] { std::memcpy(reinterpret_cast<void*>(to), from, nbytes); });
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t nbytes, void* stream) {
  return cuMemcpyHtoDAsync_v2(to, reinterpret_cast<const void*>(from), nbytes, stream);
}
int cuMemsetD8Async(uint64_t at, unsigned char value, size_t nbytes, void* stream) {
  return static_cast<Stream*>(stream)->enqueue(
      [=] { std::memset(reinterpret_cast<void*>(at), value, nbytes); });
}
/// Stands in for a kernel: the work of a test's plugin, in stream order.
int cuLaunchHostFunc(void* stream, void (*work)(void*), void* data) {
  return static_cast<Stream*>(stream)->enqueue([=] { work(data); });
}
int cuMemcpyDtoH_v2(void* to, uint64_t from, size_t nbytes) {
  return std::memcpy(to, reinterpret_cast<const void*>(from), nbytes), kFine;
}
int cuMemcpyHtoD_v2(uint64_t to, const void* from, size_t nbytes) {
  return std::memcpy(reinterpret_cast<void*>(to), from, nbytes), kFine;
}
int cuGetErrorString(int code, const char** text) {
  return *text = code == kOutOfMemory ? "out of memory" : "unknown", kFine;
}
}

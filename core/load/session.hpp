// One layer while it loads: its buffers, its method's session, the order of calls.
#pragma once

#include <atomic>
#include <mutex>
#include <vector>

#include "device/courier.hpp"
#include "load/memory.hpp"
#include "plan/plan.hpp"

namespace loadstone::load {

/// A piece of a streamed source, or of a checked identity that lies in its place.
struct Piece {
  bool identity = false;
  uint32_t index = 0;  // into the layer plan's sources or identities
  uint32_t pass = 1;
  uint64_t row_begin = 0, row_count = 0, row_stride = 0;
  const std::byte* at = nullptr;
  uint64_t nbytes = 0;
};

/// What a session that a GPU makes gets there: memory of LayerCost::gpu_nbytes, and the status word
/// that its kernels write.
struct GpuRoom {
  std::byte* at = nullptr;
  uint32_t* trouble = nullptr;
};

/// Threads: `feed` and `feed_on_gpu` may run at once with itself; all else is alone. Whatever
/// happens, the session is ended or aborted exactly once. A call out of order is refused with an
/// internal error and doesn't reach the plugin.
class Session {
 public:
  /// `stored` gives the place of each stored tensor (packed ones: of the packed form), parallel
  /// to the layer plan's. Plan and account outlive the session.
  Session(const plan::Plan& plan, const plan::LayerPlan& layer, std::vector<std::byte*> stored);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const plan::LayerPlan& layer() const { return layer_; }
  const std::string& path() const { return plan_.layer_of(layer_).path; }

  /// Allocates all that the layer holds until its end.
  Status allocate(MemoryAccount& account, const plan::Flow& flow, const GpuRoom& room);
  /// Nothing is fed before all resident sources are in place. `courier`: of a layer made on a GPU.
  Status begin(device::Courier* courier);
  /// `scratch`: feed_scratch bytes; `statistics`: room for one feed's (both may be null if the
  /// plan has none).
  Status feed(const Piece& piece, std::byte* scratch, std::byte* statistics);
  /// Enqueues a feed on the courier's stream; `scratch` lies on the GPU.
  Status feed_on_gpu(const Piece& piece, device::Courier& courier, std::byte* scratch);
  /// Between the passes of a layer made on a GPU, once all of the first is done there: merges what
  /// its feeds gathered.
  Status merge_on_gpu();
  /// On a GPU once all that was enqueued is done.
  Status end();
  /// Sends what was made here to its GPU; nothing for layers that live on the host.
  Status deliver(device::Courier& courier);
  /// The GPU that stored tensors live on, or -1. Unless made_here(), places are its addresses.
  int32_t gpu() const { return gpu_; }
  bool made_here() const { return made_here_; }
  bool made_on_gpu() const { return made_on_gpu_; }
  /// Whether bytes go to the GPU as they are read, to be fed there or because they stay as they
  /// are.
  bool goes_over() const { return gpu_ >= 0 && !made_here_; }

  /// Where the canonical bytes of a stored tensor go.
  std::byte* canonical(uint32_t stored) const;
  /// Buffer of a resident or held source, or null.
  std::byte* source_buffer(uint32_t source) const {
    return made_on_gpu_ ? gpu_buffers_[source] : buffers_[source].data();
  }
  /// Fed from memory in the second pass.
  bool held() const { return layer_.passes == 2 && !layer_.reread; }
  /// Needs begin … end of its method.
  bool active() const { return layer_.session; }
  uint64_t statistics_nbytes() const;

 private:
  enum class State : uint8_t { fresh, begun, done };
  struct Arrays;  // what begin points to until end

  template <typename Call>
  Status call(const char* name, Call&& function) const;
  Error out_of_order(const char* call) const;
  void place_on_gpu(const plan::Flow& flow, const GpuRoom& room);
  ls_buffer buffer(const std::byte* at, uint64_t nbytes) const;
  ls_piece piece_of(const Piece& piece) const;
  Status repack();
  void release();

  const plan::Plan& plan_;
  const plan::LayerPlan& layer_;
  std::vector<std::byte*> stored_;
  std::vector<Block> buffers_;  // parallel to sources
  std::vector<Block> made_;     // parallel to stored, where they are sent on
  std::vector<std::byte*> sent_to_;
  int32_t gpu_ = -1;
  bool made_here_ = false, made_on_gpu_ = false;
  std::vector<std::byte*> gpu_buffers_;  // parallel to sources
  std::byte* gpu_scratch_ = nullptr;
  std::byte* gpu_statistics_ = nullptr;  // the merged ones, then one block a feed
  std::atomic<uint64_t> blocks_used_{0};
  uint32_t* trouble_ = nullptr;
  device::Courier* courier_ = nullptr;  // whose side stream begin and end use
  std::vector<Block> canonical_;        // parallel to stored; of those that are packed
  Block scratch_, statistics_;
  std::mutex merging_;
  std::unique_ptr<Arrays> arrays_;
  ls_session* session_ = nullptr;
  State state_ = State::fresh;
};

}  // namespace loadstone::load

#include "load/engine.hpp"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <iterator>
#include <map>
#include <mutex>
#include <new>
#include <optional>
#include <set>
#include <system_error>
#include <thread>

#include "load/arena.hpp"
#include "load/gpu_side.hpp"
#include "load/moves.hpp"
#include "load/reads.hpp"
#include "load/session.hpp"
#include "plan/flow.hpp"

namespace loadstone::load {

namespace {

/// A unit while it is in flight.
struct Flight {
  const plan::Unit* unit = nullptr;
  std::vector<std::unique_ptr<Session>> sessions;
  Phase phase = Phase::place;
  size_t unfinished = 0;                // reads of this phase
  uint64_t on_gpu = 0;                  // its place in the GPUs' memory for layers in flight
  std::set<device::Courier*> couriers;  // that something is under way with
};

struct Task {
  Flight* flight = nullptr;
  Read read;
};

class Engine {
 public:
  Engine(const plan::Plan& plan, const plan::Flow& flow, std::span<const uint32_t> order,
         const StoredPlace& place, SlabPages* pages, MemoryAccount& account,
         const LoadControl& control)
      : plan_(plan),
        flow_(flow),
        order_(order),
        place_(place),
        pages_(pages),
        account_(account),
        control_(control),
        gpus_(plan, flow, account),
        mover_(plan, flow, pages, account, gpus_),
        gpu_room_(flow.gpu_flight_nbytes) {}

  Result<EngineTotals> run() {
    for (uint32_t i = 0; i < flow_.slots; ++i) {
      LS_TRY(Block slot, Block::allocate(account_, flow_.slot_nbytes));
      free_slots_.push_back(slot.data());
      slots_.push_back(std::move(slot));
    }
    LS_CHECK(gpus_.prepare(order_));
    for (uint32_t index : order_) {
      const plan::LayerPlan& layer = plan_.layers[index];
      total_nbytes_ += plan::source_nbytes(plan_, layer);
    }
    progress(0);
    work_on_threads();
    flights_.clear();  // sessions that an error left use what follows
    const auto releasing = Clock::now();
    gpus_.release();
    totals_.release_seconds = seconds_since(releasing);
    totals_.staging_nbytes = gpus_.staging_nbytes();
    if (error_) return *std::move(error_);
    return totals_;
  }

 private:
  void work_on_threads() {
    std::vector<std::thread> threads;
    {
      // None begins before all are made: making a thread waits for page faults of others.
      std::lock_guard lock(mutex_);
      try {
        for (unsigned i = 1; i < flow_.workers; ++i)
          threads.emplace_back([this] { work_guarded(); });
      } catch (const std::system_error&) {
        // Fewer threads than planned do the same work.
      }
    }
    work_guarded();
    for (std::thread& thread : threads) thread.join();
  }

  /// Nothing may leave a thread: what the library throws for want of memory ends the load.
  void work_guarded() {
    try {
      Couriers& couriers = gpus_.of_thread();
      work(couriers);
      EngineTotals mine;
      Status status = GpuSide::arrive(couriers, mine);
      std::lock_guard lock(mutex_);
      totals_.add(mine);
      if (!status.ok()) fail(std::move(status).error());
    } catch (const std::bad_alloc&) {
      std::lock_guard lock(mutex_);
      fail(Error{Code::resource, "out of memory", "", "found none left while loading", ""});
    }
  }

  void work(Couriers& couriers) {
    std::unique_lock lock(mutex_);
    while (true) {
      if (!error_ && cancelled()) fail(Error{Code::cancelled, "load cancelled", "", "", ""});
      if (error_ || (next_unit_ == flow_.units.size() && flights_.empty())) break;
      if (may_admit()) {
        admit(lock, couriers);
      } else if (auto task = take_ready()) {
        execute(lock, std::move(*task), couriers);
      } else {
        const auto start = Clock::now();
        wake_.wait_for(lock, std::chrono::milliseconds(100));
        totals_.idle_seconds += seconds_since(start);
      }
    }
    wake_.notify_all();
  }

  bool cancelled() const { return control_.cancel != nullptr && control_.cancel->cancelled(); }

  void fail(Error error) {
    if (!error_) error_ = std::move(error);
    ready_.clear();
    wake_.notify_all();
  }

  /// Enough is ready already, or the unit's memory would not fit beside what is in flight.
  bool may_admit() const {
    if (next_unit_ == flow_.units.size() || ready_.size() >= flow_.workers) return false;
    if (flights_.empty()) return true;
    const plan::Unit& unit = flow_.units[next_unit_];
    if (!gpu_room_.fits(unit.gpu_nbytes)) return false;
    uint64_t feed = std::max(unit.feed_nbytes, feed_in_use_);
    for (const auto& flight : flights_) feed = std::max(feed, flight->unit->feed_nbytes);
    return held_in_flight_ + unit.held_nbytes + feed <= flow_.in_flight_nbytes;
  }

  void admit(std::unique_lock<std::mutex>& lock, Couriers& couriers) {
    flights_.push_back(std::make_unique<Flight>());
    Flight& flight = *flights_.back();
    flight.unit = &flow_.units[next_unit_++];
    held_in_flight_ += flight.unit->held_nbytes;
    // Alone it always fits: then all of the room is free.
    flight.on_gpu = gpu_room_.take(flight.unit->gpu_nbytes).value_or(0);
    lock.unlock();
    auto start = Clock::now();
    Status status = prepare(flight, couriers);
    std::vector<Read> reads;
    if (status.ok()) reads = make_reads(plan_, flow_, flight.sessions, Phase::place);
    double seconds = seconds_since(start);
    lock.lock();
    totals_.admit_seconds += seconds;
    if (!status.ok()) {
      fail(std::move(status).error());
      return;
    }
    if (reads.empty()) return next_phase(lock, flight, couriers);
    enqueue(flight, std::move(reads));
  }

  Status prepare(Flight& flight, Couriers& couriers) {
    uint64_t on_gpu = flight.on_gpu;
    for (uint32_t i = 0; i < flight.unit->count; ++i) {
      uint32_t index = order_[flight.unit->begin + i];
      const plan::LayerPlan& layer = plan_.layers[index];
      std::vector<std::byte*> stored;
      for (uint32_t s = 0; s < layer.stored.size(); ++s) stored.push_back(place_(index, s));
      flight.sessions.push_back(std::make_unique<Session>(plan_, layer, std::move(stored)));
      Session& session = *flight.sessions.back();
      if (pages_ != nullptr && session.gpu() < 0) prepare_produced(index, layer);
      LS_CHECK(session.allocate(account_, flow_,
                                gpus_.room_of(session, flight.unit->begin + i, on_gpu)));
      on_gpu += plan::cost_of(plan_, layer, flow_).gpu_nbytes;
      if (session.active() && begins_early(layer)) LS_CHECK(begin(session, couriers));
    }
    return {};
  }

  Status begin(Session& session, Couriers& couriers) {
    if (!session.made_on_gpu()) return session.begin(nullptr);
    LS_TRY(device::Courier * courier, gpus_.courier(couriers, session.gpu()));
    return session.begin(courier);
  }

  /// Pages of what the method will write; what is read straight to its place brings its own.
  void prepare_produced(uint32_t index, const plan::LayerPlan& layer) {
    std::vector<bool> identical(layer.stored.size(), false);
    for (const plan::Identity& identity : layer.identities) identical[identity.stored] = true;
    for (uint32_t s = 0; s < layer.stored.size(); ++s) {
      if (!identical[s]) pages_->prepare(place_(index, s), layer.stored[s].slab_nbytes());
    }
  }

  /// Goes on to the first later phase that reads something, or to the end.
  void next_phase(std::unique_lock<std::mutex>& lock, Flight& flight, Couriers& couriers) {
    while (!error_) {
      if (flight.phase == Phase::second) return finish(lock, flight, couriers);
      flight.phase = static_cast<Phase>(static_cast<uint8_t>(flight.phase) + 1);
      std::vector<Read> reads;
      lock.unlock();
      Status status;
      if (flight.phase == Phase::stream) status = begin_late(flight, couriers);
      if (flight.phase == Phase::second) status = merge_on_gpu(flight);
      if (status.ok()) reads = make_reads(plan_, flow_, flight.sessions, flight.phase);
      lock.lock();
      if (!status.ok()) return fail(std::move(status).error());
      if (!reads.empty()) return enqueue(flight, std::move(reads));
    }
  }

  void enqueue(Flight& flight, std::vector<Read> reads) {
    if (error_) return;
    flight.unfinished = reads.size();
    std::vector<Task> tasks;
    for (Read& read : reads) tasks.push_back({&flight, std::move(read)});
    // Later phases go first: they free what their unit holds.
    auto at = flight.phase == Phase::place ? ready_.end() : ready_.begin();
    ready_.insert(at, std::make_move_iterator(tasks.begin()), std::make_move_iterator(tasks.end()));
    wake_.notify_all();
  }

  Status begin_late(Flight& flight, Couriers& couriers) {
    for (const auto& session : flight.sessions) {
      if (session->active() && !begins_early(session->layer())) {
        LS_CHECK(begin(*session, couriers));
      }
    }
    return {};
  }

  /// Waits until all that was enqueued for the flight is done.
  static Status pass(const Flight& flight) {
    for (device::Courier* courier : flight.couriers) LS_CHECK(courier->finish());
    return {};
  }

  static Status merge_on_gpu(const Flight& flight) {
    const bool any = std::any_of(flight.sessions.begin(), flight.sessions.end(), [](const auto& s) {
      return s->made_on_gpu() && s->layer().passes == 2;
    });
    if (!any) return {};
    LS_CHECK(pass(flight));
    for (const auto& session : flight.sessions) {
      if (session->made_on_gpu()) LS_CHECK(session->merge_on_gpu());
    }
    return {};
  }

  void finish(std::unique_lock<std::mutex>& lock, Flight& flight, Couriers& couriers) {
    lock.unlock();
    auto start = Clock::now();
    Status status = pass(flight);
    for (const auto& session : flight.sessions) {
      if (status.ok() && session->active()) status = session->end();
      if (!status.ok() || !session->made_here()) continue;
      auto courier = gpus_.courier(couriers, session->gpu());
      status = courier.ok() ? session->deliver(**courier) : Status(std::move(courier).error());
    }
    flight.sessions.clear();
    double seconds = seconds_since(start);
    lock.lock();
    totals_.end_seconds += seconds;
    held_in_flight_ -= flight.unit->held_nbytes;
    gpu_room_.give_back(flight.on_gpu, flight.unit->gpu_nbytes);
    flights_.erase(std::find_if(flights_.begin(), flights_.end(),
                                [&](const auto& other) { return other.get() == &flight; }));
    if (!status.ok()) return fail(std::move(status).error());
    wake_.notify_all();
  }

  /// The first read whose slot and memory are free; takes both.
  std::optional<Task> take_ready() {
    for (auto it = ready_.begin(); it != ready_.end(); ++it) {
      bool slot_free = !it->read.slot || !free_slots_.empty();
      bool fits = it->read.feed_nbytes == 0 ||
                  feed_in_use_ + it->read.feed_nbytes + held_in_flight_ <= flow_.in_flight_nbytes;
      // What is in flight leaves room for the largest feed, so one alone always may.
      if (!slot_free || !(fits || feed_in_use_ == 0)) continue;
      Task task = std::move(*it);
      ready_.erase(it);
      feed_in_use_ += task.read.feed_nbytes;
      return task;
    }
    return std::nullopt;
  }

  void execute(std::unique_lock<std::mutex>& lock, Task task, Couriers& couriers) {
    std::byte* slot = nullptr;
    if (task.read.slot) {
      slot = free_slots_.back();
      free_slots_.pop_back();
    }
    lock.unlock();
    EngineTotals mine;
    Status status = mover_.follow(task.read, slot, mine, couriers);
    lock.lock();
    note_courier(task, couriers);
    if (slot != nullptr) free_slots_.push_back(slot);
    feed_in_use_ -= task.read.feed_nbytes;
    totals_.add(mine);
    if (!status.ok()) return fail(std::move(status).error());
    if (error_) return;
    if (mine.read_nbytes != 0) progress(mine.read_nbytes);
    if (--task.flight->unfinished == 0) return next_phase(lock, *task.flight, couriers);
    wake_.notify_one();
  }

  /// Only layers that a GPU makes must be waited for before their end.
  static void note_courier(const Task& task, Couriers& couriers) {
    for (const Item& item : task.read.items) {
      if (!item.session->made_on_gpu()) continue;
      const auto found = couriers.find(item.session->gpu());
      if (found != couriers.end()) task.flight->couriers.insert(&found->second);
    }
  }

  /// Called under the lock: never concurrently.
  void progress(uint64_t nbytes) {
    done_nbytes_ += nbytes;
    if (!control_.progress) return;
    control_.progress({"load", std::min(done_nbytes_, total_nbytes_), total_nbytes_, "bytes"});
  }

  const plan::Plan& plan_;
  const plan::Flow& flow_;
  std::span<const uint32_t> order_;
  const StoredPlace& place_;
  SlabPages* pages_;
  MemoryAccount& account_;
  const LoadControl& control_;
  std::vector<Block> slots_;
  GpuSide gpus_;
  Mover mover_;

  std::mutex mutex_;
  std::condition_variable wake_;
  // Under the mutex:
  std::vector<std::byte*> free_slots_;
  std::deque<Task> ready_;
  std::vector<std::unique_ptr<Flight>> flights_;
  Arena gpu_room_;
  size_t next_unit_ = 0;
  uint64_t held_in_flight_ = 0, feed_in_use_ = 0;
  uint64_t total_nbytes_ = 0, done_nbytes_ = 0;
  EngineTotals totals_;
  std::optional<Error> error_;
};

}  // namespace

Result<EngineTotals> run_engine(const plan::Plan& plan, const plan::Flow& flow,
                                std::span<const uint32_t> order, const StoredPlace& place,
                                SlabPages* pages, MemoryAccount& account,
                                const LoadControl& control) {
  return Engine(plan, flow, order, place, pages, account, control).run();
}

}  // namespace loadstone::load

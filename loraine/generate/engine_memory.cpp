// Whose turn it is, which pages of the cache a request has, and who gives its own back.
#include <algorithm>
#include <cstring>
#include <utility>

#include "loraine/core/error.h"
#include "loraine/generate/engine.h"
#include "loraine/model/gpu/gpu_answers.h"

namespace loraine {
namespace {

// What a request takes of its flow's turn: its prompt and an answer, of which only the beginning is certain.
int64_t cost_of(int64_t prompt, int64_t limit) {
  constexpr int64_t kAnswer = 512;
  return prompt + std::min(limit, kAnswer);
}

int64_t pages_for(int64_t rows) { return (rows + kKvPage - 1) / kKvPage; }

}  // namespace

// A new request takes its place behind those that wait, or with the one that reads its prompt.
void Engine::join(Entry& entry) {
  const int64_t leader = entry.request.same_prompt_as;
  const auto at = entries_.find(leader);
  const bool follows = leader != 0 && at != entries_.end() && !entry.search && !at->second.search && !at->second.finished &&
                       at->second.leader == 0 && static_cast<int64_t>(at->second.seen.size()) == at->second.prompt_length();
  if (!follows) return wait(entry);
  if (at->second.request.prompt != entry.request.prompt || at->second.request.adapter != entry.request.adapter) {
    entries_.erase(entry.number);
    throw Error(ErrorKind::internal, "same_prompt_as: request " + std::to_string(leader) + " has another prompt or adapter");
  }
  entry.leader = leader;
  at->second.followers.push_back(entry.number);
}

void Engine::wait(Entry& entry) {
  queue_.push(entry.number, {entry.request.adapter, entry.request.client}, cost_of(entry.prompt_length(), entry.limit));
}

// Those whose turn it is begin, as long as there are seats and pages.
void Engine::admit() {
  while (const std::optional<int64_t> number = queue_.next()) {
    Entry& entry = entries_.at(*number);
    if (!fits(entry) || !place(entry)) return;
    queue_.serve(*number);
  }
}

// Whether the pages last for what the request has so far, with some left for those that run.
bool Engine::fits(const Entry& entry) const {
  if (seats_taken() + seats_of(entry) > sequences_) return false;
  const int64_t running = std::ranges::count_if(entries_, [](const auto& e) { return e.second.placed(); });
  int64_t needed = pages_for(std::max(entry.prompt_length(), entry.computed()) + 1);
  if (entry.search) needed = entry.beams * entry.pages_of_beam();
  else if (shares_prefix(entry)) needed -= prefixes_.in_use(*entry.request.prefix_key, entry.request.prompt);
  const int64_t left = running == 0 ? 0 : std::min(running, pages_.count() / 16);
  return std::min(needed, pages_.count()) + left <= pages_.free() + prefixes_.evictable();
}

// Gives it a seat, and the pages that there are of its prompt; those of a beam search all at once.
bool Engine::place(Entry& entry) {
  if (entry.search) {
    for (int64_t page = entry.beams * entry.pages_of_beam(); page > 0; --page) {
      const int32_t taken = take_page();
      if (taken < 0) {
        for (int32_t one : entry.pages) pages_.release(one);
        entry.pages.clear();
        return false;
      }
      entry.pages.push_back(taken);
    }
  } else if (shares_prefix(entry)) {  // the last row is computed in any case: it gives the first token
    entry.pages = prefixes_.find(*entry.request.prefix_key, std::span(entry.request.prompt).first(entry.request.prompt.size() - 1));
    find_base_prefix(entry);
    entry.kv_length = static_cast<int64_t>(entry.pages.size()) * kKvPage;
    if (!entry.begun) {
      entry.reused = entry.kv_length;
      counts_.reused += entry.kv_length;
    }
  }
  entry.slots = free_slots(seats_of(entry));
  entry.began = begun_++;
  entry.begun = true;
  return true;
}

// aLoRA: the rows before the invocation are the base's, and where more of those lie in the cache than of the adapter's they are taken.
void Engine::find_base_prefix(Entry& entry) {
  const auto most = std::min<int64_t>(entry.invoked_from, entry.prompt_length() - 1);
  if (!entry.request.base_prefix_key || most < kKvPage) return;
  std::vector<int32_t> pages =
      prefixes_.find(*entry.request.base_prefix_key, std::span(entry.request.prompt).first(static_cast<size_t>(most)));
  if (pages.size() > entry.pages.size()) std::swap(pages, entry.pages);
  for (const int32_t page : pages) pages_.release(page);
}

// Every beam has a state of its own.
int64_t Engine::seats_of(const Entry& entry) const { return states_ ? entry.beams : 1; }

int64_t Engine::seats_taken() const {
  int64_t seats = 0;
  for (const auto& [number, entry] : entries_) seats += entry.placed() ? seats_of(entry) : 0;
  return seats;
}

std::vector<int64_t> Engine::free_slots(int64_t count) const {
  std::vector<int64_t> slots;
  for (int64_t slot = 0; static_cast<int64_t>(slots.size()) < count; ++slot) {
    const auto taken = [&](const auto& e) { return e.second.placed() && std::ranges::find(e.second.slots, slot) != e.second.slots.end(); };
    if (std::ranges::none_of(entries_, taken)) slots.push_back(slot);
  }
  return slots;
}

int32_t Engine::take_page() {
  int32_t page = pages_.take();
  if (page < 0 && prefixes_.evict()) page = pages_.take();
  return page;
}

// Pages for the next `rows` rows; younger requests give theirs up for it. False: there are none, and the request waits.
bool Engine::grow(Entry& entry, int64_t rows) {
  if (entry.search) return true;
  while (static_cast<int64_t>(entry.pages.size()) < pages_for(entry.kv_length + rows)) {
    const int32_t page = take_page();
    if (page >= 0) entry.pages.push_back(page);
    else if (!preempt_after(entry)) return false;
  }
  return true;
}

// The youngest of those that began after the entry loses its pages. A beam search keeps those it began with.
bool Engine::preempt_after(const Entry& entry) {
  Entry* youngest = nullptr;
  for (auto& [number, other] : entries_)
    if (other.placed() && !other.search && other.began > (youngest ? youngest->began : entry.began)) youngest = &other;
  if (!youngest) return false;
  give_back(*youngest);
  ++counts_.preempted;
  if (!youngest->finished && !youngest->held)
    queue_.push_back_again(youngest->number, {youngest->request.adapter, youngest->request.client});
  return true;
}

void Engine::give_back(Entry& entry) {
  for (int32_t page : entry.pages) pages_.release(page);
  entry.pages.clear();
  entry.kv_length = 0;
  entry.began = -1;
}

// The request no longer waits, runs or reads for others.
void Engine::leave(Entry& entry) {
  queue_.remove(entry.number);
  if (entry.placed()) give_back(entry);
  if (entry.leader != 0) std::erase(entries_.at(entry.leader).followers, entry.number);
  entry.leader = 0;
  for (const int64_t follower : std::exchange(entry.followers, {})) part_from_leader(entries_.at(follower));
}

// Its prompt is read for itself.
void Engine::part_from_leader(Entry& entry) {
  entry.leader = 0;
  if (!entry.held) wait(entry);
}

bool Engine::shares_prefix(const Entry& entry) const {
  return entry.request.prefix_key.has_value() && !entry.search && !alone_ && !states_ && !entry.request.tells_prompt();
}

// Whether a batch of prompts has this one alone: what stands in the base's place may be set for one adapter at a time.
bool Engine::reads_by_itself(const Entry& entry) const { return alone_ || (entry.request.adapter && entry.request.adapter->dense); }

// The whole pages of the prompt that are computed.
void Engine::keep_prefix(Entry& entry) {
  if (!shares_prefix(entry)) return;
  const int64_t pages = std::min(entry.kv_length, entry.prompt_length()) / kKvPage;
  if (const int64_t of_base = std::min(pages, entry.invoked_from / kKvPage); entry.request.base_prefix_key && of_base > 0)
    prefixes_.keep(*entry.request.base_prefix_key, std::span(entry.request.prompt).first(static_cast<size_t>(of_base * kKvPage)),
                   std::span(entry.pages).first(static_cast<size_t>(of_base)));
  prefixes_.keep(*entry.request.prefix_key, std::span(entry.request.prompt).first(static_cast<size_t>(pages * kKvPage)),
                 std::span(entry.pages).first(static_cast<size_t>(pages)));
}

// Those that wait for this prompt go on from its pages, the last one as a copy where it is not full; whoever has no place reads for itself.
void Engine::fork(Entry& entry, std::vector<Entry*>& sampled) {
  for (const int64_t number : std::exchange(entry.followers, {})) {
    Entry& other = entries_.at(number);
    other.leader = 0;
    const int64_t seats = seats_taken();
    const int32_t last = seats < sequences_ && entry.kv_length % kKvPage != 0 ? take_page() : -1;
    if (seats >= sequences_ || other.held || (entry.kv_length % kKvPage != 0 && last < 0)) {
      if (last >= 0) pages_.release(last);
      part_from_leader(other);
      continue;
    }
    other.pages = entry.pages;
    if (last >= 0) {
      copy_page(last, other.pages.back());
      other.pages.back() = last;
    }
    for (const int32_t page : other.pages)
      if (page != last) pages_.hold(page);
    other.kv_length = entry.kv_length;
    other.slots = free_slots(1);
    copy_slot(other.slots.front(), entry.slots.front());
    other.began = begun_++;
    other.begun = true;
    sampled.push_back(&other);
  }
}

void Engine::copy_page(int32_t to, int32_t from) {
  if (gpu_) return gpu_->copy_page(to, from);
  for (const Tensor& rows : cache_.rows()) {
    const Tensor page = rows.row_range(from * kKvPage, kKvPage);
    std::memcpy(rows.row_range(to * kKvPage, kKvPage).data, page.data, page.bytes());
  }
}

// What the cache has of each sequence, in the row of its slot, beside rows for each token.
std::vector<Tensor> Engine::states() const {
  std::vector<Tensor> all;
  for (const auto& layer : cache_.layers)
    for (const auto& branch : layer)
      for (const Tensor& t : branch)
        if (t.rows() != cache_.capacity) all.push_back(t);
  return all;
}

void Engine::copy_slot(int64_t to, int64_t from) {
  for (const Tensor& states : states())
    std::memcpy(states.row_range(to, 1).data, states.row_range(from, 1).data, states.row_range(from, 1).bytes());
}

EngineLoad Engine::load() const {
  EngineLoad load = counts_;
  for (const auto& [number, entry] : entries_)
    if (!entry.finished) ++(entry.placed() ? load.running : load.waiting);
  load.capacity = pages_.count() * kKvPage;
  load.rows = (pages_.count() - pages_.free()) * kKvPage;
  load.kept = prefixes_.evictable() * kKvPage;
  return load;
}

}  // namespace loraine

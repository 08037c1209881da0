// Counting, and walks through the tree.
#include "loraine/generate/kv_pages.h"

#include <algorithm>

#include "loraine/core/error.h"

namespace loraine {

KvPages::KvPages(int64_t pages) : holders_(static_cast<size_t>(pages), 0) {
  for (int64_t page = pages; page-- > 0;) free_.push_back(static_cast<int32_t>(page));
}

int32_t KvPages::take() {
  if (free_.empty()) return -1;
  const int32_t page = free_.back();
  free_.pop_back();
  holders_[static_cast<size_t>(page)] = 1;
  return page;
}

void KvPages::release(int32_t page) {
  if (--holders_[static_cast<size_t>(page)] == 0) free_.push_back(page);
}

struct PrefixTree::Node {
  std::vector<int32_t> ids;  // kKvPage of them; of a root none
  int32_t page = -1;
  Node* parent = nullptr;
  std::string key;  // of a root
  uint64_t used = 0;
  std::map<std::vector<int32_t>, std::unique_ptr<Node>> children;
};

PrefixTree::PrefixTree(KvPages& pages) : pages_(pages) {}
PrefixTree::~PrefixTree() = default;

void PrefixTree::use(Node& node) {
  if (node.children.empty()) leaves_.erase({node.used, &node});
  node.used = ++clock_;
  if (node.children.empty()) leaves_.insert({node.used, &node});
}

PrefixTree::Node* PrefixTree::child(Node& parent, std::span<const int32_t> ids) const {
  const auto found = parent.children.find({ids.begin(), ids.end()});
  return found == parent.children.end() ? nullptr : found->second.get();
}

namespace {
int64_t whole_pages(std::span<const int32_t> ids) { return static_cast<int64_t>(ids.size()) / kKvPage; }
std::span<const int32_t> page_of(std::span<const int32_t> ids, int64_t page) {
  return ids.subspan(static_cast<size_t>(page * kKvPage), static_cast<size_t>(kKvPage));
}
}  // namespace

std::vector<int32_t> PrefixTree::find(const std::string& key, std::span<const int32_t> ids) {
  std::vector<int32_t> found;
  const auto root = roots_.find(key);
  Node* at = root == roots_.end() ? nullptr : root->second.get();
  for (int64_t page = 0; at && page < whole_pages(ids); ++page) {
    at = child(*at, page_of(ids, page));
    if (!at) break;
    use(*at);
    pages_.hold(at->page);
    found.push_back(at->page);
  }
  return found;
}

int64_t PrefixTree::in_use(const std::string& key, std::span<const int32_t> ids) const {
  const auto root = roots_.find(key);
  int64_t held = 0;
  Node* at = root == roots_.end() ? nullptr : root->second.get();
  for (int64_t page = 0; at && page < whole_pages(ids); ++page) {
    at = child(*at, page_of(ids, page));
    if (at && pages_.holders(at->page) > 1) ++held;
  }
  return held;
}

void PrefixTree::keep(const std::string& key, std::span<const int32_t> ids, std::span<int32_t> pages) {
  if (whole_pages(ids) == 0 || pages.empty()) return;
  std::unique_ptr<Node>& root = roots_[key];
  if (!root) {
    root = std::make_unique<Node>();
    root->key = key;
  }
  Node* at = root.get();
  for (int64_t i = 0; i < whole_pages(ids) && i < static_cast<int64_t>(pages.size()); ++i) {
    int32_t& page = pages[static_cast<size_t>(i)];
    Node* next = child(*at, page_of(ids, i));
    if (!next) {
      if (at->children.empty()) leaves_.erase({at->used, at});
      auto node = std::make_unique<Node>();
      node->ids.assign(page_of(ids, i).begin(), page_of(ids, i).end());
      node->page = page;
      node->parent = at;
      next = at->children.emplace(node->ids, std::move(node)).first->second.get();
      leaves_.insert({next->used, next});
      pages_.hold(page);
      ++size_;
    } else if (next->page != page) {
      pages_.hold(next->page);
      pages_.release(page);
      page = next->page;
    }
    use(*next);
    at = next;
  }
}

bool PrefixTree::evict() {
  const auto leaf = std::ranges::find_if(leaves_, [&](const auto& entry) { return pages_.holders(entry.second->page) == 1; });
  if (leaf == leaves_.end()) return false;
  Node* node = leaf->second;
  Node* parent = node->parent;
  leaves_.erase(leaf);
  pages_.release(node->page);
  --size_;
  parent->children.erase(std::vector<int32_t>(node->ids));  // a copy: the node goes with its ids
  if (!parent->children.empty()) return true;
  if (parent->parent) leaves_.insert({parent->used, parent});
  else roots_.erase(std::string(parent->key));
  return true;
}

// A page that only the tree holds has no page below it that others hold: whoever holds a page holds those before it.
int64_t PrefixTree::evictable() const {
  int64_t count = 0;
  const auto walk = [&](const auto& self, const Node& node) -> void {
    for (const auto& [ids, next] : node.children) {
      if (pages_.holders(next->page) == 1) ++count;
      self(self, *next);
    }
  };
  for (const auto& [key, root] : roots_) walk(walk, *root);
  return count;
}

}  // namespace loraine

// Renders a parsed Jinja template. Called by ChatTemplate.
#pragma once
#include <ctime>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "loraine/text/jinja/ast.h"

namespace loraine::jinja {

struct RenderOptions {
  std::optional<std::tm> now;  // what strftime_now sees; the local time if absent
  Budget budget;
};

struct Rendered {
  std::string text;
  std::vector<std::pair<size_t, size_t>> generation;  // byte ranges in text
};

Rendered render(const Template& source, const nlohmann::ordered_json& context, const RenderOptions& options = {});

struct Scope {
  std::unordered_map<std::string, Value> variables;
  std::shared_ptr<Scope> parent;
};
using ScopePtr = std::shared_ptr<Scope>;
enum class Flow { Normal, Break, Continue };

class Engine {
 public:
  explicit Engine(const RenderOptions& options) : options_(options) {}
  ~Engine();
  Rendered run(const Template& source, const nlohmann::ordered_json& context);

  Value call(const Value& callee, Args& args);
  Value call_macro(const Node& node, const ScopePtr& closure, const std::string& name, Args& args, bool is_caller);
  Value run_loop(const Node& node, const Value& iterable, const ScopePtr& scope, int depth);  // a recursive loop's text
  Value make_namespace(Args& args);
  std::tm now() const;
  void keep_loop(const std::shared_ptr<Object>& loop);  // it remembers values that may hold it: cut at the end

 private:
  Value eval(const Node& node, const ScopePtr& scope);
  Value eval_call(const Node& node, const ScopePtr& scope);
  Value eval_compare(const Node& node, const ScopePtr& scope);
  Args eval_arguments(const Node& node, const ScopePtr& scope);
  Value lookup(const std::string& name, const ScopePtr& scope) const;
  void assign(const Node& target, const Value& value, const ScopePtr& scope);
  Flow exec(const std::vector<NodePtr>& body, const ScopePtr& scope);
  Flow exec(const Node& node, const ScopePtr& scope);
  void exec_for(const Node& node, const Value& iterable, const ScopePtr& scope, int depth);
  void exec_generation(const Node& node, const ScopePtr& scope);
  std::string capture(const std::vector<NodePtr>& body, const ScopePtr& scope);
  void write(std::string_view text);
  ScopePtr child_of(const ScopePtr& parent) const;
  void keep(const ScopePtr& scope);  // scopes and namespaces that may hold cycles are emptied at the end

  const RenderOptions& options_;
  Rendered result_;
  std::string* out_ = nullptr;
  int depth_ = 0;
  std::vector<ScopePtr> kept_scopes_;
  std::vector<std::shared_ptr<NamespaceObject>> kept_namespaces_;
  std::vector<std::shared_ptr<Object>> kept_loops_;
  bool constant_ = false;               // what is printed names nothing: Jinja2 works it out while it compiles
  std::optional<Value> block_subject_;  // of the filters of a filter or set block
};

}  // namespace loraine::jinja

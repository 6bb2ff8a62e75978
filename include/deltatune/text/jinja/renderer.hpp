// Evaluates the tree of a template.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deltatune/core/config.hpp"
#include "deltatune/text/jinja/arguments.hpp"
#include "deltatune/text/jinja/clock.hpp"
#include "deltatune/text/jinja/filters.hpp"
#include "deltatune/text/jinja/methods.hpp"
#include "deltatune/text/jinja/operators.hpp"
#include "deltatune/text/jinja/syntax.hpp"
#include "deltatune/text/jinja/tests.hpp"
#include "deltatune/text/jinja/value.hpp"
#include "deltatune/text/jinja/writing.hpp"

namespace deltatune::jinja {

struct RenderOptions {
  Limits limits = {};
  std::optional<DateTime> now = {};  // what strftime_now() tells; a template that asks for it is refused without
  Value traced = {};                 // a list of dicts: Rendering::pieces says which of them each part of the text was written for
};

struct ByteRange {
  std::size_t begin = 0, end = 0;
};

// A run of bytes that was written inside a loop over the traced list, while it was at this item.
struct TracedPiece {
  std::size_t item = 0;
  ByteRange bytes = {};
};

struct Rendering {
  std::string text = {};
  std::vector<ByteRange> generated = {};  // what stood in {% generation %} blocks
  std::vector<TracedPiece> pieces = {};   // in the order of the text
};

// The variables of a template, a macro, or one round of a loop.
struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<std::string_view, Value>> variables = {};  // the names live in the tree
  bool is_kept = false;                                            // a macro that may outlive it reads it

  Value* find(std::string_view name) {
    for (auto& [key, value] : variables)
      if (key == name) return &value;
    return nullptr;
  }

  void set(std::string_view name, Value value) {
    if (Value* const found = find(name)) {
      *found = std::move(value);
    } else {
      variables.emplace_back(name, std::move(value));
    }
  }
};

class Renderer {
 public:
  Renderer(const Dict& variables, const RenderOptions& options) : variables_(variables), options_(options), budget_(options.limits) {
    if (const Sequence* const traced = options.traced.as_sequence())
      for (std::size_t i = 0; i < traced->items.size(); ++i) traced_.emplace(traced->items[i].as_dict(), i);
  }

  // Throws Failure; then line() is the place, and traced_item() what the template was at.
  DELTATUNE_FUNCTION Rendering run(const Node& body) {
    Scope root;
    execute(body, root);
    return std::move(rendering_);
  }

  int line() const { return line_; }
  std::optional<std::size_t> traced_item() const { return active_.empty() ? std::nullopt : std::optional(active_.back()); }

 private:
  enum class Flow { kOn, kBreak, kContinue };

  // --- Output

  DELTATUNE_FUNCTION void write(std::string_view text) {
    budget_.charge_bytes(text.size());
    if (out_->size() + text.size() > budget_.limits().output_bytes) {
      throw Failure{"the template's text is too long", {.expected = "at most " + std::to_string(budget_.limits().output_bytes) + " bytes"}};
    }
    if (out_ == &rendering_.text && !active_.empty() && !text.empty()) {
      std::vector<TracedPiece>& pieces = rendering_.pieces;
      const std::size_t begin = out_->size(), end = begin + text.size();
      if (!pieces.empty() && pieces.back().item == active_.back() && pieces.back().bytes.end == begin) {
        pieces.back().bytes.end = end;
      } else {
        pieces.push_back({active_.back(), {begin, end}});
      }
    }
    *out_ += text;
  }

  // What `action` writes.
  template <class Action>
  std::string captured(Action action) {
    std::string text;
    std::string* const outer = std::exchange(out_, &text);
    action();
    out_ = outer;  // after an exception nothing is written any more
    return text;
  }

  // --- Statements

  DELTATUNE_FUNCTION Flow execute(const Node& node, Scope& scope) {
    const Level level(budget_);
    at(node);
    switch (node.kind) {
      case NodeKind::kBody:
        for (const Node& statement : node.children) {
          const Flow flow = execute(statement, scope);
          if (flow != Flow::kOn) return flow;
        }
        return Flow::kOn;
      case NodeKind::kText:
        write(node.text);
        return Flow::kOn;
      case NodeKind::kPrint: {
        const Value value = evaluate(node.children[0], scope);
        line_ = node.line;
        value.is_text() ? write(value.text()) : write(text_of(value, budget_));
        return Flow::kOn;
      }
      case NodeKind::kIf:
        for (std::size_t i = 0; i + 1 < node.children.size(); i += 2)
          if (is_true(evaluate(node.children[i], scope))) return execute(node.children[i + 1], scope);
        return execute(node.children.back(), scope);
      case NodeKind::kFor:
        return execute_for(node, scope);
      case NodeKind::kSet:
        assign(node.children[0], evaluate(node.children[1], scope), scope);
        return Flow::kOn;
      case NodeKind::kSetBlock: {
        Flow flow = Flow::kOn;
        std::string text = captured([&] { flow = execute_inner(node.children[2], scope); });
        if (flow == Flow::kOn) assign(node.children[0], filtered(node.children[1], std::move(text), scope), scope);
        return flow;
      }
      case NodeKind::kWith: {
        auto inner = std::make_unique<Scope>(Scope{.parent = &scope});
        for (std::size_t i = 0; i + 1 < node.children.size(); i += 2) assign(node.children[i], evaluate(node.children[i + 1], scope), *inner);
        const Flow flow = execute(node.children.back(), *inner);
        close(std::move(inner));
        return flow;
      }
      case NodeKind::kMacro:
        scope.set(node.text, macro(node, scope));
        return Flow::kOn;
      case NodeKind::kCall: {
        const Node& call = node.children.back();
        const Value function = evaluate(call.children[0], scope);
        Arguments arguments = evaluate_arguments(call, scope);
        arguments.named.emplace_back("caller", macro(node, scope));
        line_ = call.line;
        write(text_of(invoke(function, arguments, call.line), budget_));
        return Flow::kOn;
      }
      case NodeKind::kFilterBlock: {
        Flow flow = Flow::kOn;
        std::string text = captured([&] { flow = execute_inner(node.children[1], scope); });
        if (flow == Flow::kOn) write(text_of(filtered(node.children[0], std::move(text), scope), budget_));
        return flow;
      }
      case NodeKind::kGeneration: {
        if (out_ != &rendering_.text) {
          throw Failure{"a {% generation %} block whose text is not written where it stands",
                        {.remedy = "put it outside of macros and other blocks that catch their text"}};
        }
        const std::size_t begin = rendering_.text.size();
        const std::string text = captured([&] { execute_inner(node.children[0], scope); });
        write(text);
        rendering_.generated.push_back({begin, rendering_.text.size()});
        return Flow::kOn;
      }
      case NodeKind::kBreak:
        return Flow::kBreak;
      case NodeKind::kContinue:
        return Flow::kContinue;
      default:  // kAbsent: no else
        return Flow::kOn;
    }
  }

  // With variables of its own.
  Flow execute_inner(const Node& body, Scope& scope) {
    auto inner = std::make_unique<Scope>(Scope{.parent = &scope});
    const Flow flow = execute(body, *inner);
    close(std::move(inner));
    return flow;
  }

  // The end of a scope, which stays if a macro reads it.
  void close(std::unique_ptr<Scope> scope) {
    if (scope->is_kept) kept_.push_back(std::move(scope));
  }

  DELTATUNE_FUNCTION Flow execute_for(const Node& node, Scope& scope) {
    std::shared_ptr<const Sequence> items = items_of(evaluate(node.children[1], scope), budget_);
    const Node &target = node.children[0], &condition = node.children[2], &body = node.children[3];
    if (condition.kind != NodeKind::kAbsent) {
      std::vector<Value> chosen;
      for (const Value& item : items->items) {
        auto round = std::make_unique<Scope>(Scope{.parent = &scope});
        assign(target, item, *round);
        if (is_true(evaluate(condition, *round))) chosen.push_back(item);
        close(std::move(round));
      }
      items = Value::list(std::move(chosen)).shared_sequence();
    }
    for (std::size_t i = 0; i < items->items.size(); ++i) {
      const Value& item = items->items[i];
      const auto traced = item.as_dict() == nullptr ? traced_.end() : traced_.find(item.as_dict());
      if (traced != traced_.end()) active_.push_back(traced->second);
      auto round = std::make_unique<Scope>(Scope{.parent = &scope});
      line_ = node.line;
      round->set("loop", std::make_shared<const Loop>(Loop{.items = items, .index0 = i}));
      assign(target, item, *round);
      const Flow flow = execute(body, *round);
      close(std::move(round));
      if (traced != traced_.end()) active_.pop_back();
      if (flow == Flow::kBreak) break;
    }
    if (items->items.empty()) return execute_inner(node.children[4], scope);
    return Flow::kOn;
  }

  DELTATUNE_FUNCTION void assign(const Node& target, const Value& value, Scope& scope) {
    if (target.kind == NodeKind::kName) return scope.set(target.text, value);
    line_ = target.line;
    if (target.kind == NodeKind::kMember) {
      Namespace* const names = look_up(target.text, scope).as_namespace();
      if (names == nullptr) throw Failure{"an attribute of " + target.text + " is assigned to, which is no namespace", {.remedy = "make it with namespace()"}};
      names->attributes[target.names.front()] = value;
      return;
    }
    if (value.is_undefined()) fail_undefined(value);
    const auto items = items_of(value, budget_);
    if (items->items.size() != target.children.size()) {
      throw Failure{"a value does not fill its variables",
                    {.expected = std::to_string(target.children.size()) + " items", .got = std::to_string(items->items.size())}};
    }
    for (std::size_t i = 0; i < target.children.size(); ++i) assign(target.children[i], items->items[i], scope);
  }

  Value macro(const Node& node, Scope& scope) {
    for (Scope* each = &scope; each != nullptr; each = each->parent) each->is_kept = true;
    return Callable{.kind = Callable::Kind::kMacro, .name = node.text, .macro = &node, .scope = &scope};
  }

  // The filters of a block, on its text.
  DELTATUNE_FUNCTION Value filtered(const Node& filters, std::string text, Scope& scope) {
    captured_.emplace_back(std::move(text));
    Value value = evaluate(filters, scope);
    captured_.pop_back();
    return value;
  }

  // --- Expressions

  void at(const Node& node) {
    budget_.charge(1);
    line_ = node.line;
  }

  DELTATUNE_FUNCTION Value look_up(const std::string& name, Scope& scope) {
    for (Scope* each = &scope; each != nullptr; each = each->parent)
      if (const Value* const found = each->find(name)) return *found;
    if (const Value* const found = variables_.find(std::string_view(name))) return *found;
    for (const std::string_view known : {"range", "namespace", "dict", "raise_exception", "strftime_now", "lipsum", "cycler", "joiner"})
      if (name == known) return Callable{.kind = Callable::Kind::kFunction, .name = name};
    return Value::undefined("'" + name + "' is undefined");
  }

  DELTATUNE_FUNCTION Value evaluate(const Node& node, Scope& scope) {
    const Level level(budget_);
    at(node);
    switch (node.kind) {
      case NodeKind::kConstant:
        return node.value;
      case NodeKind::kName:
        return look_up(node.text, scope);
      case NodeKind::kCaptured:
        return captured_.back();
      case NodeKind::kList:
        return Value::list(evaluate_all(node, scope));
      case NodeKind::kTuple:
        return Value::tuple(evaluate_all(node, scope));
      case NodeKind::kDict:
        return evaluate_dict(node, scope);
      case NodeKind::kAttribute: {
        const Value object = evaluate(node.children[0], scope);
        line_ = node.line;
        return attribute_of(object, node.text);
      }
      case NodeKind::kItem: {
        const Value object = evaluate(node.children[0], scope), key = evaluate(node.children[1], scope);
        line_ = node.line;
        budget_.charge_bytes(object.is_text() ? object.text().size() : 0);
        return item_of(object, key);
      }
      case NodeKind::kSlice: {
        const std::vector<Value> parts = evaluate_all(node, scope);
        line_ = node.line;
        return slice(parts[0], parts[1], parts[2], parts[3], budget_);
      }
      case NodeKind::kInvoke: {
        const Value function = evaluate(node.children[0], scope);
        return invoke(function, evaluate_arguments(node, scope), node.line);
      }
      case NodeKind::kFilter: {
        const Value input = evaluate(node.children[0], scope);
        const Arguments arguments = evaluate_arguments(node, scope);
        line_ = node.line;
        return apply_filter(node.text, input, arguments, budget_);
      }
      case NodeKind::kTest: {
        const Value input = evaluate(node.children[0], scope);
        const Arguments arguments = evaluate_arguments(node, scope);
        line_ = node.line;
        return apply_test(node.text, input, arguments, budget_);
      }
      case NodeKind::kNot:
        return !is_true(evaluate(node.children[0], scope));
      case NodeKind::kAnd: {
        Value left = evaluate(node.children[0], scope);
        return is_true(left) ? evaluate(node.children[1], scope) : left;
      }
      case NodeKind::kOr: {
        Value left = evaluate(node.children[0], scope);
        return is_true(left) ? left : evaluate(node.children[1], scope);
      }
      case NodeKind::kCompare:
        return evaluate_comparison(node, scope);
      case NodeKind::kConcatenate: {
        std::string text;
        for (const Node& operand : node.children) {
          const Value value = evaluate(operand, scope);
          line_ = node.line;
          Writer(budget_, text).str(value);
        }
        return text;
      }
      case NodeKind::kBinary: {
        const Value left = evaluate(node.children[0], scope), right = evaluate(node.children[1], scope);
        line_ = node.line;
        return operate(node.text, left, right, budget_);
      }
      case NodeKind::kNegative:
      case NodeKind::kPositive: {
        const Value operand = evaluate(node.children[0], scope);
        line_ = node.line;
        if (operand.is_undefined()) fail_undefined(operand);
        if (!operand.is_number())
          throw Failure{"a sign stands before something else than a number", {.got = std::string("a value of the type ") + operand.type_name()}};
        if (node.kind == NodeKind::kPositive) return operand.is_float() ? operand : Value(operand.integer());
        return operand.is_float() ? Value(-operand.number()) : Arithmetic(0, operand).subtract();
      }
      case NodeKind::kConditional:
        if (is_true(evaluate(node.children[0], scope))) return evaluate(node.children[1], scope);
        if (node.children[2].kind != NodeKind::kAbsent) return evaluate(node.children[2], scope);
        return Value::undefined("an inline if without else has no value when its condition is false");
      default:
        throw Failure{"a part of the template has no value"};
    }
  }

  std::vector<Value> evaluate_all(const Node& node, Scope& scope) {
    std::vector<Value> values;
    for (const Node& child : node.children) values.push_back(evaluate(child, scope));
    return values;
  }

  DELTATUNE_FUNCTION Value evaluate_dict(const Node& node, Scope& scope) {
    Dict dict;
    for (std::size_t i = 0; i < node.children.size(); i += 2) {
      Value key = evaluate(node.children[i], scope);
      budget_.charge(key.is_text() ? 1 : 1 + dict.size());
      dict.set(std::move(key), evaluate(node.children[i + 1], scope));
    }
    return dict;
  }

  // a < b < c
  DELTATUNE_FUNCTION Value evaluate_comparison(const Node& node, Scope& scope) {
    Value left = evaluate(node.children[0], scope);
    for (std::size_t i = 0; i < node.names.size(); ++i) {
      Value right = evaluate(node.children[i + 1], scope);
      line_ = node.line;
      const std::string& name = node.names[i];
      const auto equal = [&] { return is_equal(left, right, budget_); };
      bool holds = false;
      if (name == "==" || name == "!=") {
        holds = equal() == (name == "==");
      } else if (name == "in" || name == "not in") {
        holds = contains(right, left, budget_) == (name == "in");
      } else {
        const bool is_greater = name.front() == '>';
        holds = is_greater ? is_less(right, left, budget_) : is_less(left, right, budget_);
        if (name.size() == 2 && !holds) holds = equal();
      }
      if (!holds) return false;
      left = std::move(right);
    }
    return true;
  }

  DELTATUNE_FUNCTION Arguments evaluate_arguments(const Node& node, Scope& scope) {
    Arguments arguments;
    for (std::size_t i = 0; i < node.names.size(); ++i) {
      Value value = evaluate(node.children[i + 1], scope);
      if (node.names[i].empty()) {
        arguments.positional.push_back(std::move(value));
      } else {
        arguments.named.emplace_back(node.names[i], std::move(value));
      }
    }
    return arguments;
  }

  DELTATUNE_FUNCTION Value invoke(const Value& function, const Arguments& arguments, int line) {
    line_ = line;
    if (function.is_undefined()) fail_undefined(function);
    const Callable* const callable = function.as_callable();
    if (callable == nullptr) throw Failure{std::string("a value of the type ") + function.type_name() + " is called"};
    if (callable->kind == Callable::Kind::kMethod) return call_method(*callable, arguments, budget_);
    return callable->kind == Callable::Kind::kMacro ? call_macro(*callable, arguments) : call_function(callable->name, arguments);
  }

  DELTATUNE_FUNCTION Value call_macro(const Callable& callable, const Arguments& arguments) {
    const Level level(budget_);
    const Node& definition = *callable.macro;
    const std::vector<std::string>& names = definition.names;
    const std::string function = "the macro " + definition.text;
    if (arguments.positional.size() > names.size()) {
      throw Failure{function + " has too many arguments",
                    {.expected = "at most " + std::to_string(names.size()), .got = std::to_string(arguments.positional.size())}};
    }
    auto scope = std::make_unique<Scope>(Scope{.parent = callable.scope});
    for (const auto& [name, value] : arguments.named) {
      const auto found = std::find(names.begin(), names.end(), name);
      if (found == names.end()) {
        if (name != "caller") throw Failure{function + " has no argument " + name};
        scope->set("caller", value);
      } else if (found - names.begin() < static_cast<std::ptrdiff_t>(arguments.positional.size())) {
        throw Failure{function + " is given its argument " + name + " twice"};
      }
    }
    for (std::size_t i = 0; i < names.size(); ++i) {
      const Value* given = i < arguments.positional.size() ? &arguments.positional[i] : arguments.find(names[i]);
      const bool has_default = definition.children[i].kind != NodeKind::kAbsent;
      if (given != nullptr) {
        scope->set(names[i], *given);
      } else {
        scope->set(names[i], has_default ? evaluate(definition.children[i], *scope)
                                         : Value::undefined("the argument '" + names[i] + "' of " + function + " was not given"));
      }
    }
    const std::size_t body = names.size();
    std::string text = captured([&] { execute(definition.children[body], *scope); });
    close(std::move(scope));
    return text;
  }

  DELTATUNE_FUNCTION Value call_function(const std::string& name, const Arguments& arguments) {
    const std::string function = "the function " + name;
    if (name == "range") return range(arguments);
    if (name == "dict" || name == "namespace") {
      if (arguments.positional.size() > 1) throw Failure{function + " has too many arguments"};
      Dict dict;
      if (!arguments.positional.empty()) {
        const Dict* const first = arguments.positional[0].as_dict();
        if (first == nullptr) throw Failure{function + " of something else than a dict is not part of this engine"};
        dict = *first;
        budget_.charge(dict.size());
      }
      for (const auto& [key, value] : arguments.named) dict.set(Value(key), value);
      if (name == "dict") return dict;
      auto& names = namespaces_.emplace_back(std::make_unique<Namespace>());
      for (const Dict::Entry& entry : dict.entries())
        if (entry.first.is_text()) names->attributes[entry.first.text()] = entry.second;
      return names.get();
    }
    if (name == "raise_exception") {
      const Bound bound(function, arguments, {"message"});
      throw Failure{"the template refuses the conversation: " + text_of(bound[0], budget_)};
    }
    if (name == "strftime_now") {
      const Bound bound(function, arguments, {"format"});
      if (!options_.now) throw Failure{"the template asks for the present time", {.remedy = "give the time that it shall print"}};
      return format_time(*options_.now, bound.text(0));
    }
    throw Failure{function + " is not part of this engine"};
  }

  DELTATUNE_FUNCTION Value range(const Arguments& arguments) {
    const Bound bound("the function range", arguments, {"start", "stop", "step"});
    const bool has_start = bound.has(1);
    const std::int64_t first = has_start ? bound.integer(0, 0) : 0, step = bound.integer(2, 1);
    if (!bound.has(0)) throw Failure{"the function range lacks its end"};
    const std::int64_t last = bound.integer(has_start ? 1 : 0, 0);
    if (step == 0) throw Failure{"the step of a range is 0"};
    constexpr std::int64_t kLongest = 100'000;  // as in the sandbox of transformers
    std::vector<Value> items;
    for (std::int64_t at = first; step > 0 ? at < last : at > last;) {
      if (static_cast<std::int64_t>(items.size()) == kLongest)
        throw Failure{"a range is too long", {.expected = "at most " + std::to_string(kLongest) + " numbers"}};
      items.emplace_back(at);
      if (__builtin_add_overflow(at, step, &at)) break;
    }
    budget_.charge(items.size());
    return Value::sequence(SequenceKind::kRange, std::move(items));
  }

  const Dict& variables_;
  const RenderOptions& options_;
  Budget budget_;
  std::map<const Dict*, std::size_t> traced_;
  Rendering rendering_;
  std::string* out_ = &rendering_.text;
  int line_ = 1;
  std::vector<std::size_t> active_;  // the traced items of the loops around, innermost last
  std::vector<Value> captured_;      // the texts of the blocks whose filters are evaluated, innermost last
  std::vector<std::unique_ptr<Scope>> kept_;
  std::vector<std::unique_ptr<Namespace>> namespaces_;
};

}  // namespace deltatune::jinja

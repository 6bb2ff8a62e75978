// The tree of a template.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "deltatune/text/jinja/value.hpp"

namespace deltatune::jinja {

// In brackets: the children. Where a part may be missing, a kAbsent stands for it.
enum class NodeKind {
  kAbsent,
  // Statements.
  kBody,         // [statements]
  kText,         // text
  kPrint,        // [expression]
  kIf,           // [condition, body, condition, body, ..., body of else]
  kFor,          // [target, iterated, condition, body, body of else]
  kSet,          // [target, expression]
  kSetBlock,     // [target, filters of kCaptured, body]
  kWith,         // [target, expression, target, expression, ..., body]
  kMacro,        // text: its name, names: of the parameters; [their defaults, body]
  kCall,         // {% call %}: names: of the parameters; [their defaults, body, the call]
  kFilterBlock,  // [filters of kCaptured, body]
  kGeneration,   // [body]
  kBreak,
  kContinue,
  // Expressions.
  kConstant,     // value
  kName,         // text
  kList,         // [items]
  kTuple,        // [items]
  kDict,         // [key, value, key, value, ...]
  kAttribute,    // text; [object]
  kItem,         // [object, index]
  kSlice,        // [object, begin, end, step]
  kInvoke,       // f(x): names: of the arguments, "" for those without; [function, arguments]
  kFilter,       // text, names as above; [input, arguments]
  kTest,         // text, names as above; [input, arguments]
  kNot,          // [operand]
  kAnd,          // [left, right]
  kOr,           // [left, right]
  kCompare,      // names: the operators; [operands]
  kConcatenate,  // [operands]
  kBinary,       // text: the operator; [left, right]
  kNegative,     // [operand]
  kPositive,     // [operand]
  kConditional,  // a if b else c: [b, a, c]
  kCaptured,     // the text inside a block
  // Targets, besides kName and kTuple.
  kMember,  // text: the namespace, names: [its attribute]
};

struct Node {
  NodeKind kind = NodeKind::kAbsent;
  int line = 1;
  int depth = 1;
  std::string text = {};
  Value value = {};
  std::vector<std::string> names = {};
  std::vector<Node> children = {};
};

}  // namespace deltatune::jinja

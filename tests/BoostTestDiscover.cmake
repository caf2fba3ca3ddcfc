# Registers each test case of a Boost.Test program with ctest, read from the program itself after it
# was built (--list_content prints to stderr; '*' marks enabled units; 4 blanks a level).
# A case that prints "SKIPPED: reason" and then fails nothing counts as skipped.
#
# Included: defines boost_test_discover(TARGET [LABELS l...]).
# Run as a script (-DPROGRAM= -DOUTPUT= -DNAME= -DLABELS=): writes the ctest file.
if(CMAKE_SCRIPT_MODE_FILE)
  cmake_policy(VERSION 3.25)
  execute_process(COMMAND ${PROGRAM} --list_content=HRF
                  OUTPUT_VARIABLE out ERROR_VARIABLE err RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${PROGRAM} --list_content failed (${result}): ${out}${err}")
  endif()
  string(REPLACE ";" "," listing "${out}${err}")
  string(REPLACE "\n" ";" lines "${listing}")
  set(path "")        # names of the open suites
  set(content "")
  set(count 0)
  string(REPLACE "," ";" labels "${LABELS}")
  list(LENGTH lines total)
  math(EXPR last "${total} - 1")
  foreach(i RANGE ${last})
    list(GET lines ${i} line)
    if(NOT line MATCHES "^( *)([^ *:]+)(\\*?)")
      continue()
    endif()
    string(LENGTH "${CMAKE_MATCH_1}" indent)
    set(unit "${CMAKE_MATCH_2}")
    set(enabled "${CMAKE_MATCH_3}")
    math(EXPR depth "${indent} / 4")
    list(SUBLIST path 0 ${depth} path)
    list(APPEND path "${unit}")
    # a suite is followed by a deeper line
    math(EXPR next "${i} + 1")
    set(next_indent 0)
    if(next LESS total)
      list(GET lines ${next} next_line)
      if(next_line MATCHES "^( *)[^ ]")
        string(LENGTH "${CMAKE_MATCH_1}" next_indent)
      endif()
    endif()
    if(next_indent GREATER indent)
      continue()
    endif()
    math(EXPR count "${count} + 1")
    if(enabled STREQUAL "") # not in this build
      continue()
    endif()
    list(JOIN path "/" case)
    string(APPEND content "add_test([==[${NAME}/${case}]==] [==[${PROGRAM}]==] "
           "[==[--run_test=${case}]==] --log_level=message --color_output=no)\n"
           "set_tests_properties([==[${NAME}/${case}]==] PROPERTIES "
           "LABELS \"${labels}\" TIMEOUT 300 SKIP_REGULAR_EXPRESSION \"SKIPPED: .*No errors detected\""
           ")\n")
  endforeach()
  if(count EQUAL 0)
    message(FATAL_ERROR "no test cases found in ${PROGRAM}")
  endif()
  file(WRITE "${OUTPUT}" "${content}")
  return()
endif()

set(BOOST_TEST_DISCOVER_SCRIPT "${CMAKE_CURRENT_LIST_FILE}")

function(boost_test_discover target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "LABELS")
  string(REPLACE ";" "," labels "${arg_LABELS}")
  set(file "${CMAKE_CURRENT_BINARY_DIR}/${target}_cases.cmake")
  string(REGEX REPLACE "^test_" "" name "${target}")
  add_custom_command(
    TARGET ${target} POST_BUILD
    COMMAND ${CMAKE_COMMAND} -DPROGRAM=$<TARGET_FILE:${target}> -DOUTPUT=${file} -DNAME=${name}
            -DLABELS=${labels} -P ${BOOST_TEST_DISCOVER_SCRIPT}
    BYPRODUCTS ${file} VERBATIM)
  file(WRITE "${CMAKE_CURRENT_BINARY_DIR}/${target}_include.cmake"
    "if(EXISTS \"${file}\")\n  include(\"${file}\")\nelse()\n"
    "  add_test(${target}_NOT_BUILT ${target}_NOT_BUILT)\nendif()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES
    "${CMAKE_CURRENT_BINARY_DIR}/${target}_include.cmake")
endfunction()

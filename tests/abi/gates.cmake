# Gates: today's header, examples and files against those of the releases, which are frozen in
# folders of their own, and tests of the gates themselves.
set(here "${CMAKE_CURRENT_SOURCE_DIR}")
find_package(Python3 COMPONENTS Interpreter)

# A case that is the same in every build.
function(vmm_gate_case name)
  vmm_abi_case("${name}" ${ARGN})
  set_tests_properties("abi/${name}" PROPERTIES LABELS "abi;once")
endfunction()

# ---- programs of each release with those of today, in both directions
set(releases 1.0 1.1)
set(says "${here}/run_says.sh")
foreach(release IN LISTS releases)
  set(frozen "${here}/v${release}")
  string(REPLACE . _ prefix "v${release}")
  vmm_gate_case(v${release}/unchanged ${CMAKE_COMMAND} -E chdir "${frozen}"
                sha256sum --check --strict --quiet SHA256SUMS)
  add_library(${prefix}_minimal_plugin MODULE v${release}/minimal_plugin.c)
  add_executable(${prefix}_minimal_host v${release}/minimal_host.c)
  foreach(target ${prefix}_minimal_plugin ${prefix}_minimal_host)
    set_target_properties(${target} PROPERTIES PREFIX "" C_VISIBILITY_PRESET hidden)
    target_include_directories(${target} PRIVATE "${frozen}" "${include_dir}")
    target_link_libraries(${target} PRIVATE project_flags ${CMAKE_DL_LIBS})
  endforeach()
  set(old_plugin $<TARGET_FILE:${prefix}_minimal_plugin>)
  set(old_host $<TARGET_FILE:${prefix}_minimal_host>)
  vmm_abi_case(v${release}/minimal_plugin/v${release} "${here}/run_expect.sh"
               "${frozen}/stand_in.txt" 0 ${old_host} ${old_plugin})
  vmm_abi_case(v${release}/minimal_plugin/minimal_host "${says}" "ABI ${release}"
               "minimal_plugin: 4 resets" -- $<TARGET_FILE:minimal_host> ${old_plugin})
  vmm_abi_case(v${release}/minimal_plugin/growth_host "${says}"
               "ABI ${release}, draft_homepage not there" "vcpu_reset: 0" "draft_hook: not there"
               "minimal_plugin: 1 resets" -- $<TARGET_FILE:growth_host> ${old_plugin})
  vmm_abi_case(v${release}/minimal_plugin/host_stub "${says}"
               "KVM_SET_MSRS 1 MSR: c0000082=0 -> 1" "minimal_plugin: 2 resets" --
               $<TARGET_FILE:host_stub> run --plugin ${old_plugin} --scenario boot,reset)
  vmm_abi_case(v${release}/minimal_plugin/host_stub/batch "${says}" "vcpu_reset(vCPU 0) = 0"
               "minimal_plugin: 2 resets" --
               $<TARGET_FILE:host_stub> run --batch --plugin ${old_plugin} --scenario boot,reset)
  vmm_abi_case(v${release}/minimal_host/minimal_plugin "${says}" "vcpu_reset with a batch: 0"
               "minimal_plugin: 4 resets" -- ${old_host} $<TARGET_FILE:minimal_plugin>)
  vmm_abi_case(v${release}/minimal_host/growth_plugin "${says}" "draft_clock 0" "draft_tag 0" --
               ${old_host} $<TARGET_FILE:growth_plugin>)
  vmm_abi_case(v${release}/minimal_host/svm_pmu "${says}" "vcpu_reset: 0"
               "vcpu_reset with a batch: 0"
               "written to vCPU 1: MSR 0xc0010208 flags 0 value 0x0" --
               ${old_host} $<TARGET_FILE:svm_pmu>)
endforeach()
set(v1_0 "${here}/v1.0")

# ---- today's header keeps what a release had
if(Python3_FOUND)
  foreach(release IN LISTS releases)
    vmm_gate_case(gate/v${release} ${Python3_EXECUTABLE} -B "${here}/header_gate.py"
                  "${here}/v${release}" "${include_dir}")
  endforeach()
  set(gate_test ${Python3_EXECUTABLE} -B "${here}/header_gate_test.py")
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${here}/header_gate_test.py")
  execute_process(COMMAND ${gate_test} --list OUTPUT_VARIABLE gate_cases COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX MATCHALL "[^\n]+" gate_cases "${gate_cases}")
  foreach(case IN LISTS gate_cases)
    vmm_gate_case("gate/${case}" ${gate_test} "${v1_0}" ${case})
  endforeach()
else()
  vmm_gate_case(gate sh -c "echo 'SKIPPED: no python3'; exit 77")
endif()

# ---- the same by abidiff, as an alarm
set(abidiff "${here}/check_abidiff.sh" "${here}/typed_entry.c")
foreach(release IN LISTS releases)
  vmm_gate_case(abidiff/v${release} ${abidiff} "${include_dir}" "${here}/v${release}/plugin.abi")
endforeach()
vmm_gate_case(abidiff/member_appended ${abidiff} "${v1_0}" "${v1_0}/plugin.abi"
              "s/  const struct vmm_msr_sink\\* batch.*/&\\n uint64_t tag\\x3b/" 4)
vmm_gate_case(abidiff/parameter_narrowed ${abidiff} "${v1_0}" "${v1_0}/plugin.abi"
              "s/uint64_t length)/uint32_t length)/" 4)
vmm_gate_case(abidiff/entry_renamed ${abidiff} "${v1_0}" "${v1_0}/plugin.abi"
              "s/vmm_plugin_v1(void)/vmm_plugin_v2(void)/" 12)

# ---- the built files
if(SVM_PMU_STATIC) # the list is of these
  foreach(target svm_pmu vmm_preload vmm-run svm-pmu host_stub)
    vmm_gate_case("files/${target}" "${here}/check_file.sh" "${here}/files.txt"
                  $<TARGET_FILE:${target}>)
  endforeach()
  vmm_gate_case("files/vmm_host" "${here}/check_file.sh" "${here}/files.txt"
                $<TARGET_FILE:vmm_host> libvmm_host.so)
endif()
if(NOT SVM_PMU_SANITIZE) # a sanitizer brings exports and libraries of its own
  foreach(target minimal_plugin growth_plugin v1_0_minimal_plugin v1_1_minimal_plugin)
    vmm_gate_case("files/${target}" "${here}/check_file.sh" "${here}/files.txt"
                  $<TARGET_FILE:${target}>)
  endforeach()
endif()
foreach(case nothing exports_too_much exports_a_variable exports_nothing needs_libm rpath runpath
             soname executable_stack text_relocation new_glibc family_without_a_line
             not_in_the_list)
  vmm_gate_case("file_gate/${case}" "${here}/file_gate_test.sh" ${case})
endforeach()

# ---- two majors in one file
add_library(both_entries MODULE both_entries.c)
set_target_properties(both_entries PROPERTIES PREFIX "" C_VISIBILITY_PRESET hidden)
target_link_libraries(both_entries PRIVATE project_flags vmm::abi)
vmm_abi_case(hosts/minimal_host/both_entries "${says}" "both_entries 2.0.0" "create: 0" --
             $<TARGET_FILE:minimal_host> $<TARGET_FILE:both_entries>)
vmm_abi_case(hosts/host_stub/both_entries "${says}" "create() = 0" --
             $<TARGET_FILE:host_stub> run --plugin $<TARGET_FILE:both_entries> --scenario boot)

# ---- each case of the ABI is one that a rule names
vmm_gate_case(cases_named "${here}/check_cases_named.sh" "${here}/held_by.txt"
              "${here}/helper_cases.txt" "${CMAKE_BINARY_DIR}")

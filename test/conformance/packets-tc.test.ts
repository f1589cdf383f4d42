import { missingPrivilege, vectorTests } from './vector-tests.ts'

vectorTests('tc', missingPrivilege())
